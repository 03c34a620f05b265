"""The conversion as a table: every target tensor, where its rows come from, and in which shard.

Made from headers and config.json alone. Everything that can be wrong with names, shapes and dtypes
is found here, before a number is read; a source tensor is used, listed as dropped, or an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..checkpoint.quantization import QuantizationConfig
from ..checkpoint.tensors import VISION
from ..errors import CheckpointError
from .bind import bind
from .quantize import Recipe
from .read import SourceCheckpoint
from .table import Entry, Output

MAX_SHARD_BYTES = 5_000_000_000
HEADER_SHARE = 1000  # one part of so many of a shard is left for its header
BLOCK_BYTES = 16 << 20  # of a source tensor read, packed and written at a time
BLOCKS_IN_FLIGHT = 7  # read ahead, checked, copied to MLX, packed, on their way to the disk
BASE_BYTES = 250_000_000  # the interpreter, MLX and numpy


@dataclass(frozen=True)
class Plan:
    """All entries in the order they are written, shard by shard."""

    source: SourceCheckpoint
    recipe: Recipe
    shards: tuple[tuple[Entry, ...], ...]
    dropped: tuple[str, ...]

    @property
    def entries(self) -> Iterator[Entry]:
        return (entry for shard in self.shards for entry in shard)

    @cached_property
    def outputs(self) -> list[Output]:
        return [output for entry in self.entries for output in entry.outputs]

    @property
    def tensor_bytes(self) -> int:
        return sum(output.num_bytes for output in self.outputs)

    @property
    def source_bytes(self) -> int:
        """Bytes to read, counted unpacked."""
        return sum(entry.num_bytes for entry in self.entries)

    @property
    def packed(self) -> dict[str, QuantizationConfig]:
        """The packed modules of the target, by path."""
        return {entry.module: entry.packing for entry in self.entries if entry.packing}

    @property
    def unfit(self) -> list[str]:
        """Matrices that stay unpacked because their width is no multiple of the group size."""
        return [entry.name for entry in self.entries if entry.wanted and not entry.packing]

    @property
    def has_vision(self) -> bool:
        return any(VISION.match(entry.name) for entry in self.entries)

    @property
    def peak_bytes(self) -> int:
        """Memory the conversion takes at most: a few blocks, and one matrix's scales and biases."""
        scales = max(sum(o.num_bytes for o in entry.outputs[1:]) for entry in self.entries)
        block = min(BLOCK_BYTES, max(entry.num_bytes for entry in self.entries))
        return BASE_BYTES + BLOCKS_IN_FLIGHT * block + 2 * scales


def make_plan(
    source: SourceCheckpoint,
    recipe: Recipe,
    *,
    requantize: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Plan:
    """The table for `source`; CheckpointError says which tensor cannot be converted, and why."""
    _refuse_packed_twice(source, requantize)
    entries, dropped = bind(source, recipe)
    return Plan(source, recipe, tuple(_shards(entries, max_shard_bytes)), dropped)


def _refuse_packed_twice(source: SourceCheckpoint, requantize: bool) -> None:
    packed = next((name for name in source.names if name.endswith(".scales")), None)
    if packed is None or requantize:
        return
    raise CheckpointError(
        f"{source.folder} is quantised already ({packed}), and quantising twice adds up the "
        "errors; convert the bf16 checkpoint, or say --requantize."
    )


def _shards(entries: Sequence[Entry], max_bytes: int) -> Iterator[tuple[Entry, ...]]:
    """Entries in order, as many a shard as fit; a matrix larger than a shard gets one alone.

    Inside a shard odd sizes come last, so that wider numbers stay aligned.
    """
    room = max_bytes - max_bytes // HEADER_SHARE
    shard: list[Entry] = []
    size = 0
    for entry in entries:
        count = sum(output.num_bytes for output in entry.outputs)
        if shard and size + count > room:
            yield _aligned(shard)
            shard, size = [], 0
        shard.append(entry)
        size += count
    yield _aligned(shard)


def _aligned(shard: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(shard, key=lambda e: any(o.num_bytes % 8 for o in e.outputs)))
