"""`convert`: a checkpoint to a quantised MLX folder, a look at what that would be, or a check."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ...errors import HubError
from ..errors import ArgumentError, FileError, exit_code
from ..options import Json
from ..parameters import flattened, given_options
from ..terminal.streams import say
from . import options

if TYPE_CHECKING:
    from ...checkpoint.hub import Download
    from ...convert.plan import Plan
    from ...convert.quantize import Recipe
    from ...convert.read import SourceCheckpoint
    from ...convert.run import Result
    from ...convert.verify import Verification


@dataclass(frozen=True)
class Task:
    """The work that the arguments ask for; `source` None: only to check `out`."""

    source: str | None
    out: Path | None
    verify: bool
    against: str | None
    as_json: bool


@flattened()
def command(
    source: options.SourceName = None,
    out: options.OutFolder = None,
    *,
    packing: options.PackingOptions,
    conversion: options.ConversionOptions,
    check: options.CheckOptions,
    as_json: Json = False,
) -> int:
    """Make a quantised MLX folder OUT of the checkpoint SOURCE.

    Memory stays below a gigabyte or so, whatever the checkpoint's size; --verify with a source
    takes 5 GB for the 26B. OUT appears when all of it is whole; after an interruption the same
    command goes on from the finished shards.
    """
    given = list(given_options(packing, conversion))
    dry_run = conversion.dry_run
    task = _task(Task(source, out, check.verify, check.against, as_json), given, dry_run)
    if task.source is None:
        return _check(task)
    from ...convert.plan import make_plan

    recipe = packing.recipe()
    if not dry_run:
        _check_target(task, conversion.overwrite)
    with ExitStack() as stack:
        checkpoint = _open(task, conversion, recipe, stack)
        plan = make_plan(checkpoint, recipe, requantize=conversion.requantize)
        return _show(plan, task) if dry_run else _convert(plan, task, conversion.overwrite)


def _task(task: Task, given: list[str], dry_run: bool) -> Task:
    """The task, if its arguments go together: `--verify OUT` alone puts OUT in SOURCE's place."""
    if task.against is not None and not task.verify:
        raise ArgumentError("--against belongs to --verify; add it.")
    if task.source is None and task.verify:
        raise ArgumentError("--verify needs a folder to check.")
    if task.source is None:
        raise ArgumentError("SOURCE and OUT are missing; give the checkpoint and a new folder.")
    if task.verify and task.out is None and not dry_run:
        if given:
            raise ArgumentError(
                f"{given[0]} is for converting, but with --verify and one folder nothing is "
                "converted; give SOURCE and OUT, or leave it out."
            )
        return replace(task, source=None, out=Path(task.source))
    if dry_run:
        if task.verify:
            raise ArgumentError("--dry-run writes nothing to --verify; leave one of them out.")
        return task
    if task.out is None:
        raise ArgumentError("OUT is missing, expected the name of a new folder.")
    return replace(task, out=Path(os.path.expanduser(task.out)))  # which raises for no name


def _check_target(task: Task, overwrite: bool) -> None:
    """Find a wrong OUT before anything is downloaded."""
    from ...checkpoint.hub import local_folder
    from ...convert.checks import check_target

    if task.source is not None and task.out is not None:
        check_target(local_folder(task.source), task.out, overwrite)


def _open(
    task: Task, conversion: options.ConversionOptions, recipe: "Recipe", stack: ExitStack
) -> "SourceCheckpoint":
    """The source, downloaded if need be; for a dry run its headers alone, kept with `stack`.

    The user has named the repository, so a download that fits on the disk needs no question.
    """
    from ...checkpoint.hub import fetch_headers, find_model
    from ...convert.read import open_checkpoint
    from ...model.memory import sized

    name, revision, dry_run = task.source or "", conversion.revision, conversion.dry_run

    def consent(download: "Download") -> bool:
        _require_room_for_source(download)
        if task.out is not None:
            num_bytes = _output_bytes(name, conversion, recipe)
            _require_room_for_both(task.out, num_bytes, download)
        missing = sized(download.missing_bytes)
        say(f"downloading {download.repo_id}, {missing}; Ctrl-C keeps what is there.")
        return True

    try:
        found = find_model(name, consent=None if dry_run else consent, revision=revision)
    except HubError:
        if not dry_run:
            raise
        folder = stack.enter_context(TemporaryDirectory())
        found = fetch_headers(name, revision, Path(folder))
    return open_checkpoint(
        found.folder,
        name=name if found.revision else None,
        revision=found.revision,
        shape_only=dry_run,
    )


def _require_room_for_source(download: "Download") -> None:
    """FileError for a download that the disk cannot hold."""
    from ...model.memory import sized

    missing, free = download.missing_bytes, download.free_bytes
    if missing > free:
        raise FileError(
            f"{download.repo_id} is {sized(missing)} more to fetch, the disk of the local cache "
            f"has {sized(free)} free; make room, or set HF_HOME to another disk."
        )


def _require_room_for_both(out: Path, output_bytes: int, download: "Download") -> None:
    """ConvertError, before hours of download, where OUT would not fit once all is fetched."""
    from ...checkpoint.hub import cache_place, nearest_folder
    from ...convert.checks import require_room

    place = nearest_folder(out.resolve().parent)
    one_disk = place.stat().st_dev == cache_place().stat().st_dev
    require_room(out, place, output_bytes, download.missing_bytes if one_disk else 0)


def _output_bytes(name: str, conversion: options.ConversionOptions, recipe: "Recipe") -> int:
    """Bytes of a repository once converted; its headers say all that can be wrong.

    0 where headers cannot be fetched alone: the room is checked again after the download.
    """
    from ...checkpoint.hub import fetch_headers
    from ...convert.checks import output_bytes
    from ...convert.plan import make_plan
    from ...convert.read import open_checkpoint

    with TemporaryDirectory() as folder:
        try:
            found = fetch_headers(name, conversion.revision, Path(folder))
        except HubError:
            return 0
        source = open_checkpoint(found.folder, name=name, shape_only=True)
        return output_bytes(make_plan(source, recipe, requantize=conversion.requantize))


def _show(plan: "Plan", task: Task) -> int:
    from ..terminal.output import write_json, write_lines
    from . import text

    if task.as_json:
        write_json(text.describe_plan(plan))
    else:
        from ...convert.estimate import estimate_seconds

        write_lines(text.plan_lines(plan, estimate_seconds(plan)))
    return 0


def _convert(plan: "Plan", task: Task, overwrite: bool) -> int:
    from ...convert.run import Reports, convert
    from ...convert.state import unfinished_shards
    from ..terminal.progress import Bar

    if task.out is None:
        raise ArgumentError("OUT is missing, expected the name of a new folder.")
    against = plan.source.folder if task.against is None else _local(task.against)
    try:
        with Bar("converting", in_bytes=True) as bar:
            result = convert(plan, task.out, overwrite=overwrite, reports=Reports(bar, say))
    except KeyboardInterrupt as interrupt:
        kept = unfinished_shards(task.out)
        say(
            f"interrupted; {kept} of {len(plan.shards)} shards are kept: the same command goes on."
            if kept
            else "interrupted; nothing is left behind, the same command starts again."
        )
        return exit_code(interrupt)
    checked = _verified(task.out, against) if task.verify else None
    _tell(plan, result, checked, task.as_json)
    return 0


def _tell(plan: "Plan", result: "Result", checked: "Verification | None", as_json: bool) -> None:
    from ..terminal.output import write_json, write_lines
    from . import text

    if as_json:
        write_json(text.describe_result(plan, result, checked))
    else:
        write_lines(text.result_lines(plan, result, checked))


def _local(name: str | Path) -> Path:
    """The folder of a model that is on this machine."""
    from ...checkpoint.hub import find_model

    return find_model(name).folder


def _check(task: Task) -> int:
    from ..terminal.output import write_json, write_lines
    from . import text

    against = None if task.against is None else _local(task.against)
    checked = _verified(_local(task.out or ""), against)
    if task.as_json:
        write_json(text.describe_check(checked))
    else:
        write_lines(text.check_lines(checked))
    return 0


def _verified(folder: Path, against: Path | None) -> "Verification":
    """The check with a bar for each of its parts."""
    from ...convert.verify import verify
    from ..terminal.progress import Bar

    bars: dict[str, Bar] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = Bar(what, in_bytes="decoder" not in what)
        bars[what](done, total)

    try:
        return verify(folder, against, progress)
    finally:
        for bar in bars.values():
            bar.close()
