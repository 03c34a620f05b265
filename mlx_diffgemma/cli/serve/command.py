"""`serve`: a model behind the HTTP interfaces that editors, agents and chat programs speak."""

from ..options import ModelOptions
from ..parameters import flattened
from . import options


@flattened(last=("dtype", "offline", "force", "no_tune", "gentle"))
def command(
    model: ModelOptions,
    address: options.AddressOptions,
    access: options.AccessOptions,
    work: options.WorkOptions,
) -> int:
    """Answer HTTP requests: chat completions, responses, messages, decisions, and a page at /.

    Works with clients of OpenAI's and Anthropic's interfaces, whatever model they name. Only this
    machine can reach it, unless --host says otherwise. Ctrl-C ends it behind the canvas in hand.
    """
    for group in (address, access, work):
        group.check()
    from .lacking import require_libraries

    require_libraries()
    from .work import serve

    return serve(model, address, access, work)
