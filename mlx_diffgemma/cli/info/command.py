"""`info`: what a checkpoint is and whether this machine can hold it, without loading it."""

from typing import Annotated

import typer

from .. import options

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="MODEL", help=options.MODEL_HELP, show_default=False)
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="N",
        help="Positions to plan memory for, prompt and answer. Default: 8192, or all there are.",
        show_default=False,
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
    from ..terminal.output import write_json, write_out
    from .facts import describe, gather

    name = default_model() if model is None else model
    facts = gather(find_model(name, offline=offline), context, dtype)
    if as_json:
        write_json(describe(facts))
    else:
        from .text import lines

        write_out("\n".join(lines(facts)) + "\n")
    return 0
