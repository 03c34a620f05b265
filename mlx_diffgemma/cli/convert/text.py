"""The output of `convert`: a plan, a result, a check; for people, and as JSON."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ...convert.checks import output_bytes
from ...convert.compare import part_of
from ...convert.estimate import estimate_seconds
from ...convert.plan import Plan
from ...convert.run import Result
from ...convert.table import Entry
from ...convert.verify import ImageCheck, Verification
from ...errors import counted
from ...machine.memory import available_memory
from ...model.inventory import PARTS
from ...model.memory import sized

NUMBER = re.compile(r"\.layers\.\d+\.")
SHOWN = 3  # names of a long list

# --- a plan


def plan_lines(plan: Plan) -> Iterator[str]:
    """Every tensor, those of alike layers in one line, then the sums."""
    groups: dict[str, dict[tuple[object, ...], list[Entry]]] = {part: {} for part in PARTS}
    for entry in plan.entries:
        key = (NUMBER.sub(".layers.*.", entry.source), entry.shape, entry.packing)
        groups[part_of(entry.name)].setdefault(key, []).append(entry)
    for part, kinds in groups.items():
        if not kinds:
            continue
        outputs = [o for alike in kinds.values() for entry in alike for o in entry.outputs]
        yield f"{part}: {sized(sum(output.num_bytes for output in outputs))}"
        for (source, *_), alike in kinds.items():
            yield from _alike(str(source), alike)
    yield ""
    yield from _sums(plan)


def _alike(source: str, entries: list[Entry]) -> Iterator[str]:
    """A source's name, shape and dtype, and below them its outputs."""
    entry = entries[0]
    count = f"{len(entries)} x " if len(entries) > 1 else ""
    stored = entry.unpacking.name if entry.unpacking else entry.dtype
    same = entry.packing is entry.unpacking is None and entry.name == entry.source
    kept = ", as it is" if same else ""
    yield f"  {count}{source}  {list(entry.shape)} {stored}{kept}"
    if same:
        return
    packing = f", {entry.packing.name}" if entry.packing else ""
    for output in entry.outputs:
        name = NUMBER.sub(".layers.*.", output.name)
        shown = name.rpartition(".")[2] if entry.packing else name
        bits = packing if output.dtype == "U32" else ""
        yield f"    -> {shown}  {list(output.shape)} {output.dtype}{bits}"


def _sums(plan: Plan) -> Iterator[str]:
    source = plan.source
    at = f" at {source.revision}" if source.revision else ""
    yield f"source       {source.name if source.revision else source.folder}{at}"
    files = counted(len(plan.source.files), "file")
    yield f"read         {sized(plan.source_bytes)} in {files}"
    yield f"tensors      {len(plan.outputs):,} with {plan.tensor_bytes:,} bytes"
    shards = counted(len(plan.shards), "shard")
    total = output_bytes(plan)
    yield f"written      {shards}, {total:,} bytes ({sized(total)})"
    if plan.token_bytes is not None:
        yield f"a token      reads {sized(plan.token_bytes)} of the weights in mode ar (arithmetic)"
    memory = available_memory()
    there = "" if memory is None else f" of {sized(memory)}"
    yield f"memory       {sized(plan.peak_bytes)} at most{there}"
    duration = _duration(estimate_seconds(plan))
    yield f"time         about {duration} on this machine, if its disks keep up"
    unfit = f"{_names(plan.unfit)}: no multiple of the group size"
    yield f"unpacked     {unfit if plan.unfit else 'nothing for its width'}"
    yield f"dropped      {_names(list(plan.dropped)) if plan.dropped else 'nothing'}"
    if plan.source.vision is None:
        yield f"vision       {_without_vision(plan)}"


def _without_vision(plan: Plan) -> str:
    if plan.source.config.vision:
        return "config.json has a tower, the source has no tensor of it"
    return "no tower: text only"


def describe_plan(plan: Plan) -> dict[str, Any]:
    """The object of `convert --dry-run --json`."""
    return {
        "tensors": [
            {
                "name": output.name,
                "dtype": output.dtype,
                "shape": list(output.shape),
                "source": entry.source,
                "bits": output.bits,
                "bytes": output.num_bytes,
            }
            for entry in plan.entries
            for output in entry.outputs
        ],
        "tensor_count": len(plan.outputs),
        "tensor_bytes": plan.tensor_bytes,
        "token_bytes": plan.token_bytes,
        "peak_memory_bytes": plan.peak_bytes,
        "dropped": list(plan.dropped),
    }


# --- a result


def result_lines(plan: Plan, result: Result, checked: Verification | None) -> Iterator[str]:
    """The folder that was made, in a few lines."""
    again = f", {result.resumed_shards} of them from before" if result.resumed_shards else ""
    size = sized(result.file_bytes)
    parts = f"{counted(result.tensor_count, 'tensor')} in {counted(result.shards, 'shard')}"
    yield f"{result.folder}: {size}, {parts}{again}"
    rate = plan.source_bytes / max(result.seconds, 1e-9)
    yield (
        f"{_duration(result.seconds)}, {sized(int(rate))}/s read, at most "
        f"{sized(result.peak_memory_bytes)} of memory"
    )
    if plan.unfit:
        yield f"left unpacked, no multiple of the group size: {_names(plan.unfit)}"
    if plan.dropped:
        yield f"dropped: {_names(list(plan.dropped))}"
    if checked is not None:
        yield ""
        yield from check_lines(checked)


def describe_result(plan: Plan, result: Result, checked: Verification | None) -> dict[str, Any]:
    """The object of `convert --json`."""
    figures = asdict(result)
    return {
        "path": str(figures.pop("folder")),
        "source": plan.source.name,
        "revision": plan.source.revision,
        "quantize": plan.recipe.name,
        **figures,
        "unpacked_for_width": plan.unfit,
        "dropped": list(plan.dropped),
        "verification": None if checked is None else describe_check(checked),
    }


# --- a check


def interrupted_line(kept: int, plan: Plan) -> str:
    """The line of an interruption that found `kept` shards finished."""
    if kept:
        return (
            f"interrupted; {kept} of {len(plan.shards)} shards are kept: the same command goes on."
        )
    return "interrupted; nothing is left behind, the same command starts again."


def check_lines(checked: Verification) -> Iterator[str]:
    """A small table; a check that fails is an error and never comes here."""
    yield f"hashes       {_hashes(checked.hashed_files)}"
    yield f"loading      {counted(checked.tensors, 'tensor')}, names, shapes and dtypes as expected"
    if checked.parts:
        yield f"{'part':<18} {'packing':<30} {'numbers':>16}  relative RMS error"
    for part in checked.parts:
        error = f"{part.relative_rms:.6f}" if part.relative_rms else "0"
        yield f"{part.part:<18} {part.packing:<30} {part.parameters:>16,}  {error}"
    decoder = checked.decoder
    if decoder is None:
        yield f"decoder      finite, mean entropy {checked.mean_entropy:.4f} nats"
    else:
        yield (
            f"decoder      KL from the source {decoder.mean_kl:.3g} nats mean, "
            f"{decoder.largest_kl:.3g} most; same first choice at {decoder.same_choice} of "
            f"{counted(decoder.positions, 'position')}"
        )
    yield f"image        {_image(checked.image)}"


def _image(image: ImageCheck | None) -> str:
    if image is None:
        return "no vision tower: text only"
    tokens = counted(image.soft_tokens, "token")
    if image.relative_rms is None:
        return f"finite, {tokens}"
    return f"{tokens}, relative RMS error {image.relative_rms:.3g} against the source's tower"


def _hashes(files: int | None) -> str:
    if files is None:
        return "no manifest, not checked"
    return f"{counted(files, 'file')} as in the manifest"


def describe_check(checked: Verification) -> dict[str, Any]:
    """The object of `convert --verify --json`."""
    return {**asdict(checked), "folder": str(checked.folder)}


def _names(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"
