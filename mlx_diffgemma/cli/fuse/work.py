"""The work of `fuse`: model and adapter found, a folder made of both, and compared with them."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...checkpoint import hub
from ...checkpoint.adapter import open_adapter, require_adapter
from ...convert.checks import check_target
from ...convert.plan import Plan
from ...convert.read import open_checkpoint
from ...convert.run import Reports, Result, convert
from ...convert.state import unfinished_shards
from ...errors import counted
from ...finetune.fuse import FuseCheck, check_fused, fuse_plan
from ...machine.awake import awake
from ...model.memory import sized
from ..convert.text import interrupted_line
from ..errors import exit_code
from ..models.consent import ask_on_terminal, find
from ..options import ModelOptions
from ..terminal.output import show
from ..terminal.progress import Bar
from ..terminal.streams import say
from .options import FuseOptions

MUCH = 0.5  # of what an adapter adds: rounding that takes more is said


def fuse(
    model: ModelOptions, adapter: Path, out: Path, options: FuseOptions, *, as_json: bool
) -> int:
    """Make the folder `out`; what is wrong with a path is found before a download."""
    require_adapter(adapter)
    check_target(hub.local_folder(model.name), out, options.overwrite)
    found = find(model.name, offline=model.offline, consent=ask_on_terminal())
    files = open_adapter(adapter, found.folder)
    name = model.name if found.revision else None
    source = open_checkpoint(found.folder, name=name, revision=found.revision)
    plan = fuse_plan(source, files, options.quantize)
    try:
        with awake(), Bar("fusing", in_bytes=True) as bar:
            result = convert(plan, out, overwrite=options.overwrite, reports=Reports(bar, say))
    except KeyboardInterrupt as interrupt:
        say(interrupted_line(unfinished_shards(out), plan))
        return exit_code(interrupt)
    checked = None
    if options.check:
        with Bar("comparing layers") as bar:
            checked = check_fused(plan, files, out, bar)
    content = _described(plan, result, adapter, checked)
    show(content, _lines(plan, result, adapter, checked), as_json)
    return 0


def _described(
    plan: Plan, result: Result, adapter: Path, checked: FuseCheck | None
) -> dict[str, Any]:
    """The object of `fuse --json`."""
    figures = asdict(result)
    return {
        "path": str(figures.pop("folder")),
        "source": plan.source.name,
        "revision": plan.source.revision,
        "adapter": str(adapter),
        "quantize": plan.recipe.name,
        "modules": sum(entry.added is not None for entry in plan.entries),
        **figures,
        "check": None if checked is None else asdict(checked),
    }


def _lines(plan: Plan, result: Result, adapter: Path, checked: FuseCheck | None) -> Iterator[str]:
    """The folder that was made, in a few lines."""
    again = f", {result.resumed_shards} of them from before" if result.resumed_shards else ""
    size, shards = sized(result.file_bytes), counted(result.shards, "shard")
    modules = counted(sum(entry.added is not None for entry in plan.entries), "module")
    yield f"{result.folder}: {plan.source.name} and {adapter.name} on {modules}"
    yield f"{size} in {shards}{again}, {result.seconds:.1f} s"
    if checked is not None:
        yield ""
        yield from _check_lines(checked)


def _check_lines(checked: FuseCheck) -> Iterator[str]:
    """A small table; a check that fails is an error and never comes here."""
    weights, logits = checked.weights, checked.logits
    yield (
        f"weights      {counted(weights.modules, 'module')} within what packing explains; furthest "
        f"off {weights.module}, {weights.relative_rms:.2g} of at most {weights.limit:.2g}"
    )
    yield (
        f"logits       largest difference: encoder {logits.encoder:.2g}, decoder "
        f"{logits.decoder:.2g}, conditioned {logits.conditioned:.2g}, of {logits.largest:.3g}"
    )
    positions = counted(logits.positions, "position")
    yield f"canvas       same first choice at {logits.same_choice} of {positions}"
    yield f"adapter      rounding takes {weights.lost:.1%} of what it adds"
    if weights.lost > MUCH:
        yield "warning: much of the adapter is lost; --quantize none keeps it, and --adapter too"
