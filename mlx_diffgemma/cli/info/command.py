"""`info`: a checkpoint's parts and the memory it needs, without loading it."""

from dataclasses import dataclass

from .. import options
from ..parameters import argument, flattened, option


@dataclass(frozen=True)
class InfoOptions:
    """The model to describe, and the context to plan for."""

    described: str | None = argument("MODEL", options.MODEL_HELP)
    context: int | None = option(
        "--context",
        "Positions to plan memory for, prompt and answer. Default: 8192, or all there are.",
        "N",
    )


@flattened(without=("model", "force", "no_tune"), last=("offline",))
def command(given: InfoOptions, model: options.ModelOptions, output: options.ReportOptions) -> int:
    """Show a model's sizes, packing and memory, and whether this machine can hold it.

    Reads headers only; no weight is loaded. Nothing is downloaded.
    """
    from ...checkpoint.hub import find_model
    from ..terminal.output import show
    from .facts import describe, gather
    from .text import lines

    source = find_model(options.ModelOptions(given.described).name, offline=model.offline)
    facts = gather(source, given.context, model.dtype)
    show(describe(facts), lines(facts), output.as_json)
    return 0
