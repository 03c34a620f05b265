"""The table of a conversion: an entry for each tensor of the target, built from its sources."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ..checkpoint.quantization import QuantizationConfig
from ..machine.dtypes import FLOATS, ITEM_BYTES
from .bind import Bound
from .quantize import Recipe
from .read import SourceCheckpoint

FINAL_NORM = "model.decoder.norm.weight"  # never packed: its dtype is that of plain numbers


@dataclass(frozen=True)
class Output:
    """One stored tensor of the target; dtype as safetensors writes it, bits of a stored number."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: int

    @property
    def num_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


class Added(Protocol):
    """Numbers that are added to a tensor's; key: differs where the numbers do."""

    @property
    def key(self) -> str:
        """A text that stands for the numbers."""
        ...

    def rows(self, first: int, count: int) -> mx.array:
        """Rows [count, width] from `first` on, float32, of the tensor with all rows in one axis."""
        ...


@dataclass(frozen=True)
class Entry:
    """A tensor of the target: the tensors of the source that make it, and how it is stored.

    The rows of `sources` (MLX names), one source behind the other, are the target's rows. Where
    `unpacking` is set, the source is a packed module's weight, with scales and biases beside it.
    """

    source: str  # the sources in one line, as the files name them
    sources: tuple[str, ...]
    dtype: str  # of the numbers, packed or not: BF16, F16 or F32
    shape: tuple[int, ...]  # unpacked
    unpacking: QuantizationConfig | None
    packing: QuantizationConfig | None
    wanted: QuantizationConfig | None  # the recipe's packing, whether or not its groups fit
    outputs: tuple[Output, ...]
    added: Added | None = None

    @property
    def is_copied(self) -> bool:
        """True where stored rows stay as they are: a packing that stays is not made anew."""
        return self.packing == self.unpacking and self.added is None

    @property
    def inputs(self) -> list[tuple[tuple[str, ...], str]]:
        """Names and dtype of all that is read row by row: the numbers, or a packing's parts."""
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
        return module_of(self.name)

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


def module_of(name: str) -> str:
    """The path of the module that a tensor is the weight of."""
    return name.removesuffix(".weight")


def make_entry(
    source: SourceCheckpoint, recipe: Recipe, bound: Bound, added: Added | None = None
) -> Entry:
    """The entry of one tensor; CheckpointError for sources of another shape or dtype."""
    unpacking = source.packing(bound.name.removesuffix(".weight"))
    dtype = _checked_dtype(source, bound, unpacking)
    wanted = recipe.packing(bound.name, bound.shape)
    packing = None if wanted is None or bound.shape[-1] % wanted.group_size else wanted
    return Entry(
        source=bound.label,
        sources=bound.sources,
        dtype=dtype,
        shape=bound.shape,
        unpacking=unpacking,
        packing=packing,
        wanted=wanted,
        outputs=tuple(packed_outputs(bound.name, dtype, bound.shape, packing)),
        added=added,
    )


def _checked_dtype(
    source: SourceCheckpoint, bound: Bound, unpacking: QuantizationConfig | None
) -> str:
    """The dtype of a tensor's numbers, unpacked; CheckpointError for a wrong dtype or shape."""
    if unpacking is None:
        shape = bound.shape
        if len(bound.sources) > 1:  # each has its share of the rows
            shape = (math.prod(shape[:-1]) // len(bound.sources), shape[-1])
        infos = [source.info(name) for name in bound.sources]
        for info in infos:
            info.require(info.name, shape, FLOATS)
        return infos[0].dtype
    scales = f"{bound.name.removesuffix('.weight')}.scales"
    plain = scales if unpacking.mode == "affine" else FINAL_NORM
    dtype = source.info(plain).dtype
    for part in packed_outputs(bound.name, dtype, bound.shape, unpacking):
        info = source.info(part.name)
        info.require(info.name, part.shape, (part.dtype,))
    return dtype


def packed_outputs(
    name: str, dtype: str, shape: tuple[int, ...], packing: QuantizationConfig | None
) -> Iterator[Output]:
    """The tensors that store `name`: itself, or U32 weight, scales and, if affine, biases."""
    if packing is None:
        yield Output(name, dtype, shape, 8 * ITEM_BYTES[dtype])
        return
    module, (*rows, width) = name.removesuffix(".weight"), shape
    groups = (*rows, width // packing.group_size)
    yield Output(name, "U32", (*rows, packing.words(width)), packing.bits)
    if packing.mode != "affine":
        yield Output(f"{module}.scales", "U8", groups, 8)
        return
    for kind in ("scales", "biases"):
        yield Output(f"{module}.{kind}", dtype, groups, 8 * ITEM_BYTES[dtype])
