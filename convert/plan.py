"""The plan of a conversion: an entry for every tensor of the target, in order, shard by shard.

A plan is made from headers and config.json alone: bind decides which source tensors make which
target tensors, each of those becomes an entry, and entries fill shards. All that can be wrong with
names, shapes and dtypes is found on the way, before a number is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from ..checkpoint.quantization import QuantizationConfig
from ..errors import CheckpointError
from ..machine.dtypes import ITEM_BYTES
from ..model.bits import packed_bits
from ..model.work import token_work, total
from .bind import bind
from .quantize import Recipe
from .read import SourceCheckpoint
from .table import Added, Entry, Output, make_entry, module_of

MAX_SHARD_BYTES = 5_000_000_000
HEADER_SHARE = 1000  # a thousandth of a shard is left for its header
BLOCK_BYTES = 16 << 20  # of a source tensor read, packed and written at a time
BLOCKS_IN_FLIGHT = 7  # read ahead, checked, copied to MLX, packed, on their way to the disk
BASE_BYTES = 250_000_000  # the interpreter, MLX and numpy


@dataclass(frozen=True)
class Plan:
    """All entries in the order of writing, shard by shard; dropped: names in the source's files."""

    source: SourceCheckpoint
    recipe: Recipe
    shards: tuple[tuple[Entry, ...], ...]
    dropped: tuple[str, ...]

    @property
    def entries(self) -> Iterator[Entry]:
        return (entry for shard in self.shards for entry in shard)

    @cached_property
    def shard_outputs(self) -> list[list[Output]]:
        """The stored tensors of each shard."""
        return [[output for entry in shard for output in entry.outputs] for shard in self.shards]

    @property
    def outputs(self) -> list[Output]:
        return [output for outputs in self.shard_outputs for output in outputs]

    @property
    def tensor_bytes(self) -> int:
        return sum(output.num_bytes for output in self.outputs)

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's numbers, counted unpacked."""
        return sum(entry.num_bytes for entry in self.entries)

    @property
    def packed(self) -> dict[str, QuantizationConfig]:
        """The packed modules of the target, by path."""
        return {entry.module: entry.packing for entry in self.entries if entry.packing}

    @property
    def token_bytes(self) -> int | None:
        """Bytes of weights that a token of mode ar reads; None where the checkpoint lacks it."""
        config = self.source.config
        if "ar" not in config.modes:
            return None
        first = next(self.entries)  # all numbers have one dtype
        bits = packed_bits(self.packed.get, ITEM_BYTES[first.dtype])
        work = token_work(config, 0, bits, item_bytes=ITEM_BYTES[first.dtype])
        return round(total(work).weight_bytes)

    @property
    def unfit(self) -> list[str]:
        """Matrices that stay unpacked because their width is no multiple of the group size."""
        return [entry.name for entry in self.entries if entry.wanted and not entry.packing]

    @property
    def peak_bytes(self) -> int:
        """Memory the conversion takes at most: blocks in flight, one matrix's scales and biases."""
        scales = max(sum(o.num_bytes for o in entry.outputs[1:]) for entry in self.entries)
        block = min(BLOCK_BYTES, max(entry.num_bytes for entry in self.entries))
        return BASE_BYTES + BLOCKS_IN_FLIGHT * block + 2 * scales


def make_plan(
    source: SourceCheckpoint,
    recipe: Recipe,
    *,
    requantize: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    added: Mapping[str, Added] = MappingProxyType({}),
) -> Plan:
    """The plan for `source`; CheckpointError names a tensor that cannot be converted, and why.

    added: numbers to add to those of a module, by its path.
    """
    _refuse_packed_twice(source, requantize)
    bound, dropped = bind(source)
    entries = [make_entry(source, recipe, one, added.get(module_of(one.name))) for one in bound]
    _refuse_mixed_dtypes(source, entries)
    return Plan(source, recipe, _shards(entries, max_shard_bytes), dropped)


def _refuse_packed_twice(source: SourceCheckpoint, requantize: bool) -> None:
    packed = next((name for name in source.headers if name.endswith(".scales")), None)
    if packed is None or requantize:
        return
    raise CheckpointError(
        f"{source.folder} is quantised already ({packed}), and quantising twice adds up the "
        "errors; convert the bf16 checkpoint, or say --requantize."
    )


def _refuse_mixed_dtypes(source: SourceCheckpoint, entries: Sequence[Entry]) -> None:
    """CheckpointError unless all numbers have one dtype, that of scales and of activations."""
    first = entries[0]
    for entry in entries:
        plain = [] if entry.unpacking else [(n, source.info(n).dtype) for n in entry.sources]
        for name, dtype in [(entry.name, entry.dtype), *plain]:
            if dtype != first.dtype:
                raise CheckpointError(
                    f"{name} in {source.folder} is {dtype}, but {first.name} is {first.dtype}; "
                    "a checkpoint has one dtype, save it again in one."
                )


def _shards(entries: Sequence[Entry], max_bytes: int) -> tuple[tuple[Entry, ...], ...]:
    """Entries in order, as many a shard as fit; a matrix larger than a shard has one to itself.

    Odd sizes stand last in a shard, so that wider numbers stay aligned.
    """
    room = max_bytes - max_bytes // HEADER_SHARE
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        count = sum(output.num_bytes for output in entry.outputs)
        if shards[-1] and size + count > room:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += count
    return tuple(
        tuple(sorted(shard, key=lambda entry: any(o.num_bytes % 8 for o in entry.outputs)))
        for shard in shards
    )
