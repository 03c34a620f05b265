"""The conversion as a table: every target tensor, where its rows come from, and in which shard.

Made from headers and config.json alone. Everything that can be wrong with names, shapes and dtypes
is found here, before a number is read; a source tensor is used, listed as dropped, or an error.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import CheckpointError
from ..model.shards import CONVERT_AGAIN, FLOATS, ITEM_BYTES
from ..model.tensors import REPACKED, VISION, is_stray, refusal
from ..quantization import QuantizationConfig
from .layout import text_shapes, vision_shapes
from .quantize import Recipe
from .read import SourceCheckpoint

MAX_SHARD_BYTES = 5_000_000_000
HEADER_SHARE = 1000  # one part of so many of a shard is left for its header
BLOCK_BYTES = 16 << 20  # of a source tensor read, packed and written at a time
BLOCKS_IN_FLIGHT = 7  # read ahead, checked, copied to MLX, packed, on their way to the disk
BASE_BYTES = 250_000_000  # the interpreter, MLX and numpy


@dataclass(frozen=True)
class Output:
    """One tensor of the target folder; dtype in safetensors' letters, bits of a stored number."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: int

    @property
    def num_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


@dataclass(frozen=True)
class Entry:
    """A row of the table: tensors of the source, and what becomes of them.

    The rows of `sources` (MLX names) one behind the other are the target's. Where `unpacking` is
    set, each source is a packed module's weight, beside which its scales and biases lie.
    """

    source: str  # in one line, as the files have it
    sources: tuple[str, ...]
    dtype: str  # of the numbers, packed or not: BF16, F16 or F32
    shape: tuple[int, ...]  # unpacked
    unpacking: QuantizationConfig | None
    packing: QuantizationConfig | None
    wanted: QuantizationConfig | None  # what the recipe would pack it as, did its groups fit
    outputs: tuple[Output, ...]

    @property
    def inputs(self) -> list[tuple[tuple[str, ...], str]]:
        """What to read, row by row: names and dtype of the numbers, or of a packing's parts."""
        if self.unpacking is None:
            return [(self.sources, self.dtype)]
        parts = packed_outputs(self.sources[0], self.dtype, self.shape, self.unpacking)
        return [((part.name,), part.dtype) for part in parts]

    @property
    def name(self) -> str:
        """The target's main tensor."""
        return self.outputs[0].name

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def num_rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of an unpacked row."""
        return self.shape[-1] * ITEM_BYTES[self.dtype]

    @property
    def num_bytes(self) -> int:
        """Bytes unpacked: the measure of progress."""
        return self.num_rows * self.row_bytes


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
    shapes = _expected(source)
    found = {name: _sources(source, name) for name in shapes}
    used = {part for names in found.values() for name in names for part in _parts(source, name)}
    dropped = _leftovers(source, used)
    entries = [_entry(source, recipe, name, found[name], shapes[name]) for name in shapes]
    _refuse_mixed_dtypes(source, entries)
    return Plan(source, recipe, tuple(_shards(entries, max_shard_bytes)), dropped)


# --- names: what must be there, and where it is ---------------------------------------------------


def _expected(source: SourceCheckpoint) -> dict[str, tuple[int, ...]]:
    """Every tensor to be written and its unpacked shape; the vision tower where the source has it.

    A folder may hold text alone, whatever its config says of vision; part of a tower is an error.
    """
    if source.config.use_clipped_linears:
        raise CheckpointError(
            "config.json: vision_config.use_clipped_linears = True is not supported."
        )
    shapes = text_shapes(source.config.text)
    vision = source.raw_config.get("vision_config")
    if vision and any(VISION.match(name) for name in source.names):
        shapes |= vision_shapes(vision, source.config.text.hidden_size)
    return shapes


def _sources(source: SourceCheckpoint, name: str) -> tuple[str, ...]:
    """Where the rows of a target tensor are: one tensor, or an expert's after the other's."""
    if name in source.names:
        return (name,)
    at, _, part = name.removesuffix(".weight").rpartition(".")
    if at.endswith(".experts"):
        halves = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
        count = source.config.text.num_experts
        single = tuple(f"{at}.{e}.{half}.weight" for e in range(count) for half in halves)
        if single[0] in source.names:
            for one in single:
                _require(source, one)
            return single
    _require(source, name)
    return (name,)


def _require(source: SourceCheckpoint, name: str) -> None:
    if name in source.names:
        return
    stem = name.removesuffix(".weight")
    for other, stored in source.names.items():
        if other.startswith(stem) and REPACKED.search(other):
            raise refusal(stored, source.folder)
    raise CheckpointError(f"{name}: missing in {source.folder}; {CONVERT_AGAIN}.")


def _parts(source: SourceCheckpoint, name: str) -> Iterator[str]:
    """A source tensor, with its scales and biases where it is packed."""
    yield name
    module = name.removesuffix(".weight")
    for kind in ("scales", "biases"):
        if f"{module}.{kind}" in source.names:
            yield f"{module}.{kind}"


def _leftovers(source: SourceCheckpoint, used: set[str]) -> tuple[str, ...]:
    """The names in the files that are known strays; any other tensor is an error."""
    dropped = []
    for name in sorted(set(source.names) - used):
        if not is_stray(name, source.config):
            raise refusal(source.names[name], source.folder)
        dropped.append(source.names[name])
    return tuple(dropped)


# --- shapes and dtypes ----------------------------------------------------------------------------


def _entry(
    source: SourceCheckpoint,
    recipe: Recipe,
    name: str,
    sources: tuple[str, ...],
    shape: tuple[int, ...],
) -> Entry:
    unpacking = _unpacking(source, name)
    if unpacking is not None:
        dtype = _check_packed(source, name, shape, unpacking)
    else:
        dtype = source.info(sources[0]).dtype
        for one in sources:
            _check(source, one, _single_shape(shape, one, len(sources)), FLOATS)
    packing = recipe.packing(name, shape)
    wanted = recipe.wanted(name.removesuffix(".weight")) if _is_matrix(name, shape) else None
    outputs = tuple(packed_outputs(name, dtype, shape, packing))
    return Entry(
        _described(source, name, sources),
        sources,
        dtype,
        shape,
        unpacking,
        packing,
        wanted,
        outputs,
    )


def _described(source: SourceCheckpoint, name: str, sources: Sequence[str]) -> str:
    """A source's name in its file, or a pattern for experts that are stacked one by one."""
    if len(sources) == 1:
        return source.names[sources[0]]
    at, _, part = name.removesuffix(".weight").rpartition(".")
    halves = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
    return " + ".join(f"{at}.*.{half}.weight" for half in halves)


def _single_shape(shape: tuple[int, ...], name: str, count: int) -> tuple[int, ...]:
    """The shape of one source of `count`: an expert has its own rows, gate and up have half."""
    if count == 1:
        return shape
    halves = 1 if name.endswith(".down_proj.weight") else 2
    return shape[1] // halves, shape[2]


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and name.endswith(".weight")


def _unpacking(source: SourceCheckpoint, name: str) -> QuantizationConfig | None:
    """How the source has packed a tensor; None for plain numbers."""
    module, quantization = name.removesuffix(".weight"), source.config.quantization
    if f"{module}.scales" not in source.names:
        return None
    if quantization is None:
        raise CheckpointError(
            f"{module}.scales is in {source.folder}, but config.json has no quantization."
        )
    return quantization.of(module)


def _check_packed(
    source: SourceCheckpoint, name: str, shape: tuple[int, ...], packing: QuantizationConfig
) -> str:
    """Checks a packed module's tensors; returns the dtype of its numbers once unpacked."""
    module, affine = name.removesuffix(".weight"), packing.mode == "affine"
    floats = source.info(f"{module}.scales").dtype if affine else _float_dtype(source)
    for output in packed_outputs(name, floats, shape, packing):
        _check(source, output.name, output.shape, (output.dtype,))
    return floats


def _float_dtype(source: SourceCheckpoint) -> str:
    """The dtype of the source's plain numbers: that of the final norm."""
    return source.info("model.decoder.norm.weight").dtype


def packed_outputs(
    name: str, dtype: str, shape: tuple[int, ...], packing: QuantizationConfig | None
) -> Iterator[Output]:
    """The tensors that hold `name`: itself, or U32 weight, scales and, if affine, biases."""
    if packing is None:
        yield Output(name, dtype, shape, 8 * ITEM_BYTES[dtype])
        return
    module, (*rows, width) = name.removesuffix(".weight"), shape
    groups = (*rows, width // packing.group_size)
    yield Output(name, "U32", (*rows, width * packing.bits // 32), packing.bits)
    if packing.mode != "affine":
        yield Output(f"{module}.scales", "U8", groups, 8)
        return
    for kind in ("scales", "biases"):
        yield Output(f"{module}.{kind}", dtype, groups, 8 * ITEM_BYTES[dtype])


def _check(
    source: SourceCheckpoint, name: str, shape: tuple[int, ...], dtypes: Iterable[str]
) -> None:
    _require(source, name)
    info = source.info(name)
    at = f"{source.names[name]} in {info.file.name}"
    if info.shape != shape:
        raise CheckpointError(
            f"{at}: shape {list(info.shape)}, expected {list(shape)}; {CONVERT_AGAIN}."
        )
    if info.dtype not in dtypes:
        raise CheckpointError(
            f"{at}: dtype {info.dtype}, expected {' or '.join(dtypes)}; {CONVERT_AGAIN}."
        )


def _refuse_mixed_dtypes(source: SourceCheckpoint, entries: Sequence[Entry]) -> None:
    """One dtype for all numbers, as the published folders have: scales take it, and so do sums."""
    first = entries[0]
    for entry in entries:
        plain = [] if entry.unpacking else [(n, source.info(n).dtype) for n in entry.sources]
        for name, dtype in [(entry.name, entry.dtype), *plain]:
            if dtype != first.dtype:
                raise CheckpointError(
                    f"{name} in {source.folder} is {dtype}, but {first.name} is {first.dtype}; "
                    "a checkpoint has one dtype, save it again in one."
                )


def _refuse_packed_twice(source: SourceCheckpoint, requantize: bool) -> None:
    packed = next((name for name in source.names if name.endswith(".scales")), None)
    if packed is None or requantize:
        return
    raise CheckpointError(
        f"{source.folder} is quantised already ({packed}), and quantising twice adds up the "
        "errors; convert the bf16 checkpoint, or say --requantize."
    )


# --- shards ---------------------------------------------------------------------------------------


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
