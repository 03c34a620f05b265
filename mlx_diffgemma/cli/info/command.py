"""`info`: a checkpoint's parts and the memory it needs, without loading it."""

from typing import Annotated

from .. import options
from ..parameters import argument, option

ModelArgument = Annotated[str | None, argument("MODEL", options.MODEL_HELP)]
Context = Annotated[
    int | None,
    option(
        "--context",
        "Positions to plan memory for, prompt and answer. Default: 8192, or all there are.",
        "N",
    ),
]


def command(
    model: ModelArgument = None,
    context: Context = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    offline: options.Offline = False,
) -> int:
    """Show a model's sizes, packing and memory, and whether this machine can hold it.

    Reads headers only; no weight is loaded. Nothing is downloaded.
    """
    from ...checkpoint.hub import default_model, find_model
    from ..terminal.output import write_json, write_lines
    from .facts import describe, gather

    name = default_model() if model is None else model
    facts = gather(find_model(name, offline=offline), context, dtype)
    if as_json:
        write_json(describe(facts))
    else:
        from .text import lines

        write_lines(lines(facts))
    return 0
