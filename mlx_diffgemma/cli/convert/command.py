"""`convert`: a checkpoint to a quantised MLX folder, a look at what that would be, or a check."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import ArgumentError
from ..options import ReportOptions
from ..parameters import flattened, given_options
from . import options


@flattened()
def command(
    folders: options.FolderOptions,
    packing: options.PackingOptions,
    conversion: options.ConversionOptions,
    check: options.CheckOptions,
    output: ReportOptions,
) -> int:
    """Make a quantised MLX folder OUT of the checkpoint SOURCE.

    Memory stays below a gigabyte or so, whatever the checkpoint's size; --verify with a source
    takes 5 GB for the 26B. OUT appears when all of it is whole; after an interruption the same
    command goes on from the finished shards.
    """
    source = _source(folders, check, conversion.dry_run)
    only_check = check.verify and folders.out is None
    if only_check:
        _require_none(given_options(packing, conversion))
    out = None if only_check or conversion.dry_run else _out(folders.out)
    from . import work

    if only_check:
        return work.check_folder(Path(source), check.against, output.as_json)
    job = work.Job(source, packing.recipe(), conversion)
    return job.show_plan(output.as_json) if out is None else job.convert(out, check, output.as_json)


def _source(folders: options.FolderOptions, check: options.CheckOptions, dry_run: bool) -> str:
    """SOURCE, which every form of the command needs; ArgumentError also for a wrong --verify."""
    if check.against is not None and not check.verify:
        raise ArgumentError("--against belongs to --verify; add it.")
    if folders.source is None and check.verify:
        raise ArgumentError("--verify needs a folder to check.")
    if folders.source is None:
        raise ArgumentError("SOURCE and OUT are missing; give the checkpoint and a new folder.")
    if check.verify and dry_run:
        raise ArgumentError("--dry-run writes nothing to --verify; leave one of them out.")
    return folders.source


def _require_none(given: Iterator[str]) -> None:
    """ArgumentError for an option of a conversion where a folder is only checked."""
    if name := next(given, None):
        raise ArgumentError(
            f"{name} is for converting, but with --verify and one folder nothing is converted; "
            "give SOURCE and OUT, or leave it out."
        )


def _out(out: Path | None) -> Path:
    if out is None:
        raise ArgumentError("OUT is missing, expected the name of a new folder.")
    return Path(os.path.expanduser(out))  # Path's own raises for the home of nobody
