"""`info`: a checkpoint's parts and the memory it needs, without loading it."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import options
from ..errors import ArgumentError
from ..macs.ended import RANK
from ..parameters import argument, flag, flattened, given_options, option

if TYPE_CHECKING:
    from ..macs.group import Group


@dataclass(frozen=True)
class InfoOptions:
    """The model to describe, and the context to plan for."""

    described: str | None = argument("MODEL", options.MODEL_HELP, place=True)
    context: int | None = option(
        "--context",
        "Positions to plan memory for, prompt and answer. Default: 8192, or all there are.",
        "N",
    )
    macs: int | None = option(
        "--macs",
        "Show also what each of N Macs needs that answer together, and which Macs have it: "
        "arithmetic, no other Mac is asked. Under mlx.launch each of N tells its own limit. "
        "Default: this one.",
        "N",
    )
    revision: str | None = option("--revision", options.REVISION_HELP, "REVISION")
    settings: bool = flag(
        "--settings",
        "Show instead the settings of an answer, and where each is from: default, checkpoint, "
        "config file, environment, option.",
    )


@flattened(without=("adapter", "force", "gentle"), last=("offline", "no_tune"))
def command(given: InfoOptions, model: options.ModelOptions, output: options.ReportOptions) -> int:
    """Show a model's sizes, packing and memory, and whether this machine can hold it.

    Reads headers only; no weight is loaded. Of a repository that is not on this machine its
    headers are fetched, about a megabyte, and with --offline nothing.
    """
    if given.settings:
        return _show_settings(given, model, output.as_json)
    if given.described is not None and model.model is not None:
        raise ArgumentError("MODEL is given twice, as it is and with --model; leave one out.")
    if given.macs is None or RANK not in os.environ:
        return _report(given, model, output.as_json)
    from ..macs.group import meeting
    from .limits import require_as_many

    with meeting("info --macs") as group:
        with group.agreeing():
            require_as_many(group.share, given.macs)
        return _report(given, model, output.as_json, group)


def _report(
    given: InfoOptions, model: options.ModelOptions, as_json: bool, group: "Group | None" = None
) -> int:
    """The report; group: the Macs that were started together, of which rank 0 speaks."""
    from ...checkpoint.remote import find_headers
    from ..answer.loading import recalled
    from ..terminal.output import show
    from .facts import describe, gather
    from .text import lines

    name = model.name if given.described is None else given.described
    with find_headers(name, offline=model.offline, revision=given.revision) as source:
        here = source.download is None and not model.no_tune
        choices = recalled(source, model.dtype) if here else None
        facts = gather(source, given.context, model.dtype, choices, given.macs, group)
    show(describe(facts), lines(facts), as_json)
    return 0


def _show_settings(given: InfoOptions, model: options.ModelOptions, as_json: bool) -> int:
    """The settings in place of the report; ArgumentError for an option of the report alone."""
    from ..terminal.output import show
    from .settings import describe_settings, gather_settings, settings_lines

    for name in given_options(given, model):
        if name in ("--context", "--dtype", "--macs", "--no-tune"):
            raise ArgumentError(
                f"{name} is for the report, which --settings replaces; leave it out."
            )
    overview = gather_settings(given.described, given.revision)
    show(describe_settings(overview), settings_lines(overview), as_json)
    return 0
