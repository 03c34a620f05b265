"""Error of one folder's numbers against another's, part by part.

The tensors of both folders are unpacked a block at a time and compared in float32.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..checkpoint.quantization import QuantizationConfig
from ..errors import ConvertError
from ..model.inventory import PARTS
from ..model.text import Progress
from .plan import Plan
from .read import RowReader
from .table import Entry
from .transfer import block_rows, read_entry, read_numbers, small_cache

SLACK = 3.0  # times the error that normal numbers have
LARGEST_ERROR = 0.9  # from 1 on, zeros would do as well
UNPACKED_ERROR = 2.0**-8  # a vector may have been rounded to bfloat16
FLOAT_ERRORS = {"mxfp4": 0.12, "nvfp4": 0.1, "mxfp8": 0.04}  # of normal numbers, measured


@dataclass(frozen=True)
class PartError:
    """Error, against the source, of the tensors of one part that are packed in one way."""

    part: str
    packing: str  # "none" where nothing was packed
    parameters: int
    relative_rms: float


@dataclass
class _Sums:
    """Squares of differences and of the source's numbers, over the tensors of one part."""

    packing: QuantizationConfig | None
    differences: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, ours: mx.array, theirs: mx.array) -> None:
        self.differences += _sum_of_squares(ours - theirs)
        self.squares += _sum_of_squares(theirs)
        self.count += theirs.size

    def include(self, other: "_Sums") -> None:
        self.differences += other.differences
        self.squares += other.squares
        self.count += other.count

    @property
    def relative_rms(self) -> float:
        if self.squares == 0:
            return 0.0 if self.differences == 0 else math.inf
        return math.sqrt(self.differences / self.squares)


def compare_weights(plan: Plan, source: Plan, progress: Progress) -> tuple[PartError, ...]:
    """The error of each part relative to the source's numbers; ConvertError if too large.

    The entries of both plans are the tensors as the folders store them.
    """
    theirs = _counterparts(plan, source)
    tables: dict[tuple[str, str], _Sums] = {}
    done = 0
    with ExitStack() as stack:
        stack.enter_context(small_cache())
        readers = [stack.enter_context(closing(RowReader(p.source))) for p in (plan, source)]
        for entry in plan.entries:
            packing = entry.unpacking
            one = _Sums(packing)
            for ours, wanted in _pairs((entry, theirs[entry.name]), readers):
                one.add(ours, wanted)
            _refuse_error(entry.name, one, source.source.folder)
            key = (part_of(entry.name), packing.name if packing else "none")
            tables.setdefault(key, _Sums(packing)).include(one)
            done += entry.num_bytes
            progress(done, plan.source_bytes)
    return tuple(
        PartError(*key, sums.count, sums.relative_rms)
        for part in PARTS
        for key, sums in tables.items()
        if key[0] == part
    )


def _counterparts(plan: Plan, source: Plan) -> dict[str, Entry]:
    """The source's entries by name; ConvertError unless both plans agree on names and shapes."""
    ours, theirs = ({entry.name: entry for entry in p.entries} for p in (plan, source))
    for mine, other, there, folder in (
        (ours, theirs, plan.source.folder, source.source.folder),
        (theirs, ours, source.source.folder, plan.source.folder),
    ):
        for name, entry in mine.items():
            if name not in other:
                raise ConvertError(
                    f"{name} is in {there}, but not in {folder}; was one made from the other?"
                )
            if entry.shape != other[name].shape:
                raise ConvertError(
                    f"{name}: shape {list(entry.shape)} in {there}, {list(other[name].shape)} in "
                    f"{folder}; was one made from the other?"
                )
    return theirs


def _sum_of_squares(numbers: mx.array) -> float:
    return float(mx.square(numbers).sum())


def part_of(name: str) -> str:
    """The part of the network that a tensor belongs to, as `info` names it."""
    return next(part for part, pattern in PARTS.items() if pattern.match(name))


def largest_error(packing: QuantizationConfig | None) -> float:
    """The relative RMS error that rounding can explain."""
    if packing is None:
        return UNPACKED_ERROR
    if packing.mode in FLOAT_ERRORS:
        return SLACK * FLOAT_ERRORS[packing.mode]
    # 64 normal numbers span 4.7 deviations; rounding to steps errs by a step / sqrt(12)
    error: float = 4.7 / (2**packing.bits - 1) / math.sqrt(12)
    return min(SLACK * error, LARGEST_ERROR)


def _pairs(
    entries: tuple[Entry, Entry], readers: list[RowReader]
) -> Iterator[tuple[mx.array, ...]]:
    """Rows of both entries in float32, block by block: the same rows of each."""
    step = min(block_rows(entry) for entry in entries)
    both = [read_entry(e, r, step) for e, r in zip(entries, readers, strict=True)]
    for pair in zip(*both, strict=True):
        yield tuple(read_numbers(entry, rows).astype(mx.float32) for entry, _, rows in pair)


def _refuse_error(name: str, sums: _Sums, source: Path) -> None:
    """ConvertError for a tensor with a large error: one of thirty may hide in the part's mean."""
    limit = largest_error(sums.packing)
    if not sums.relative_rms <= limit:
        raise ConvertError(
            f"{part_of(name)}: relative RMS error {sums.relative_rms:.3g} of {name}, expected at "
            f"most {limit:.3g}; was it made from {source}? Convert again."
        )
