"""The rows of a conversion's table: an entry, and the tensors of the target that it becomes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..checkpoint.quantization import QuantizationConfig
from ..machine.dtypes import ITEM_BYTES


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
