"""`serve`: a model behind the HTTP interfaces that editors, agents and chat programs speak."""

import typer

from ..macs.options import ShareOptions, started
from ..options import ModelOptions
from ..parameters import flattened
from . import options

PATIENCE = 120.0  # seconds that the canvas in hand may take on all Macs behind Ctrl-C


@flattened(last=("dtype", "offline", "force", "no_tune", "gentle"))
def command(
    ctx: typer.Context,
    model: ModelOptions,
    address: options.AddressOptions,
    access: options.AccessOptions,
    work: options.WorkOptions,
    shared: ShareOptions,
) -> int:
    """Answer HTTP requests: chat completions, responses, messages, decisions, and a page at /.

    Works with clients of OpenAI's and Anthropic's interfaces, whatever model they name. Only this
    machine can reach it, unless --host says otherwise. Ctrl-C ends it behind the canvas in hand.
    """
    for given in (address, access, work):
        given.check()
    from .lacking import require_libraries

    require_libraries()
    shared.require_mode(work.mode or options.MODE)
    if shared.launches:
        from ..macs.launch import launch

        return launch(shared, started(ctx), patience=PATIENCE)
    from ..macs.group import joined
    from .work import serve

    with joined(shared) as group:
        return group.code(serve(model, address, access, work, group))
