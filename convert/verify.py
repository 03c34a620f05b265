"""Is a folder whole, does it load, and how far is it from its source?

Hashes against the manifest; names, shapes and dtypes against config.json; unpacked numbers against
the source's, a block at a time; and one decoder pass of both.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..config import read_json
from ..errors import ConvertError
from ..inventory import PARTS
from ..model.weights import check_network
from ..quantization import QuantizationConfig
from .passes import Distance, distance, first_step_log_probabilities
from .plan import Entry, Plan, make_plan
from .quantize import RecipeOptions, make_recipe
from .read import RowReader, open_checkpoint
from .state import MANIFEST
from .transfer import block_rows, read_entry, read_numbers, small_cache
from .write import hash_file

Progress = Callable[[str, int, int], None]  # what, done, in all
SLACK = 3.0  # times the error that normal numbers have
LARGEST_ERROR = 0.9  # from 1 on, zeros would do as well
FLOAT_ERRORS = {"mxfp4": 0.12, "nvfp4": 0.1, "mxfp8": 0.04}  # relative RMS of normal numbers


@dataclass(frozen=True)
class PartError:
    """How far the matrices and vectors of one part, packed in one way, are from the source's."""

    part: str
    packing: str  # "none" where nothing was packed
    parameters: int
    relative_rms: float


@dataclass(frozen=True)
class Verification:
    """What was found; a folder that is not what it should be is a ConvertError instead."""

    folder: Path
    hashed_files: int | None  # None: the folder has no manifest
    tensors: int
    parts: tuple[PartError, ...]  # none without a source
    decoder: Distance | None
    mean_entropy: float  # nats a canvas position after the first step


@dataclass
class _Sums:
    """Squares of differences and of the source, over the entries of one part."""

    packing: QuantizationConfig | None
    differences: float = 0.0
    squares: float = 0.0
    count: int = 0

    @property
    def relative_rms(self) -> float:
        if self.squares == 0:
            return 0.0 if self.differences == 0 else math.inf
        return math.sqrt(self.differences / self.squares)


@dataclass
class _Tables:
    """All sums, by part and by what config.json calls the packing."""

    sums: dict[tuple[str, str], _Sums] = field(default_factory=dict)

    def of(self, entry: Entry) -> _Sums:
        packing = entry.unpacking
        key = (part_of(entry.name), packing.name if packing else "none")
        return self.sums.setdefault(key, _Sums(packing))


def verify(folder: Path, against: Path | None = None, progress: Progress | None = None) -> Verification:
    """Checks `folder`, and compares it with its source `against` where that is given.

    ConvertError for a wrong hash, a number that is not finite, or an error too large to come from
    rounding; CheckpointError where the folder would not load.
    """
    progress = progress or (lambda what, done, total: None)
    hashed = check_hashes(folder, progress)
    plan = _as_stored(folder)
    check_network(folder, plan.source.config).finish()
    parts: tuple[PartError, ...] = ()
    if against is not None:
        parts = compare_weights(plan, _as_stored(against), progress)
    ours = _log_probabilities(folder, "running the decoder", progress)
    decoder = None
    if against is not None:
        theirs = _log_probabilities(against, "running the source's decoder", progress)
        decoder = distance(theirs, ours)
    entropy = float(-(np.exp(ours) * ours).sum(axis=-1).mean())
    count = len(plan.source.headers)
    return Verification(folder, hashed, count, parts, decoder, entropy)


def check_hashes(folder: Path, progress: Progress) -> int | None:
    """How many files are as the manifest says; None where there is no manifest."""
    if not (folder / MANIFEST).is_file():
        return None
    files = _manifest_files(folder)
    total, done = sum(entry["bytes"] for entry in files), 0
    for entry in files:
        file = folder / entry["name"]
        if not file.is_file():
            raise ConvertError(f"{file}: missing, but {MANIFEST} lists it; convert again.")
        if (got := hash_file(file)).sha256 != entry["sha256"]:
            raise ConvertError(
                f"{file}: sha256 {got.sha256[:16]}..., expected {entry['sha256'][:16]}...; "
                "the file has changed, convert again."
            )
        done += entry["bytes"]
        progress("checking hashes", done, total)
    return len(files)


def _manifest_files(folder: Path) -> list[dict[str, Any]]:
    files = read_json(folder / MANIFEST).get("files")
    if not isinstance(files, list) or not all(
        isinstance(entry, dict) and {"name", "bytes", "sha256"} <= entry.keys() for entry in files
    ):
        raise ConvertError(f"{folder / MANIFEST}: lists no files; convert again.")
    return files


def compare_weights(plan: Plan, source: Plan, progress: Progress) -> tuple[PartError, ...]:
    """The error of every part's numbers, relative to the source's; ConvertError if too large."""
    theirs = {entry.name: entry for entry in source.entries}
    tables, done = _Tables(), 0
    with (
        small_cache(),
        closing(RowReader(plan.source)) as reader,
        closing(RowReader(source.source)) as other,
    ):
        for entry in plan.entries:
            if entry.name not in theirs:
                raise ConvertError(f"{entry.name} is not in {source.source.folder}.")
            sums = tables.of(entry)
            for ours, wanted in _pairs(entry, reader, theirs[entry.name], other):
                difference = mx.square(ours - wanted).sum()
                squares = mx.square(wanted).sum()
                sums.differences += float(difference.item())
                sums.squares += float(squares.item())
                sums.count += wanted.size
            done += entry.num_bytes
            progress("comparing weights", done, plan.source_bytes)
    for (part, _), sums in tables.sums.items():
        _refuse_error(part, sums, source.source.folder)
    order = list(PARTS)
    return tuple(
        PartError(part, packing, sums.count, sums.relative_rms)
        for (part, packing), sums in sorted(tables.sums.items(), key=lambda t: order.index(t[0][0]))
    )


def part_of(name: str) -> str:
    """The part of the network that a tensor belongs to, as `info` names it."""
    return next(part for part, pattern in PARTS.items() if pattern.match(name))


def _as_stored(folder: Path) -> Plan:
    """A folder's own tensors as a plan that would unpack them all: every name and shape checked."""
    return make_plan(
        open_checkpoint(folder), make_recipe(RecipeOptions("none")), requantize=True
    )


def _pairs(
    entry: Entry, reader: RowReader, source: Entry, other: RowReader
) -> Iterator[tuple[mx.array, mx.array]]:
    """The same rows of both, in float32."""
    step = min(block_rows(entry), block_rows(source))
    mine, theirs = read_entry(entry, reader, step), read_entry(source, other, step)
    for (_, _, a), (_, _, b) in zip(mine, theirs, strict=True):
        pair = read_numbers(entry, a), read_numbers(source, b)
        yield pair[0].astype(mx.float32), pair[1].astype(mx.float32)


def _refuse_error(part: str, sums: _Sums, source: Path) -> None:
    limit = _largest_error(sums.packing)
    if not sums.relative_rms <= limit:
        raise ConvertError(
            f"{part}: relative RMS error {sums.relative_rms:.3g}, expected at most {limit:.3g}; "
            f"it was not made from {source}, or not well."
        )


def _largest_error(packing: QuantizationConfig | None) -> float:
    """The relative RMS error that rounding can explain; unpacked numbers may change their dtype."""
    if packing is None:
        return 2.0**-8
    if packing.mode in FLOAT_ERRORS:
        return SLACK * FLOAT_ERRORS[packing.mode]
    # Normal numbers span 4.7 deviations in groups of 64; a step's error has deviation step / sqrt 12
    error = 4.7 / (2**packing.bits - 1) / math.sqrt(12)
    return min(SLACK * error, LARGEST_ERROR)


def _log_probabilities(folder: Path, what: str, progress: Progress) -> np.ndarray:
    rows = first_step_log_probabilities(folder, lambda done, total: progress(what, done, total))
    if not np.isfinite(rows).all():
        raise ConvertError(f"{folder}: a decoder pass gives numbers that are not finite.")
    return rows
