"""The part of a tensor that one Mac keeps: runs of an axis, of which alone the bytes are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from ..errors import CheckpointError, ShareError, one_line
from ..machine.dtypes import MLX_NAMES, mlx_dtype, numpy_name
from ..share.share import Span
from .quantization import QuantizationConfig, finer
from .shards import CONVERT_AGAIN, TensorInfo

INPUTS, OUTPUTS, EXPERTS = -1, -2, -3  # axes of a weight [..., O, I], or [E, O, I]


@dataclass(frozen=True)
class Keep:
    """Runs of one axis of a tensor: first and end of each, one behind the other.

    Of a weight they count its numbers, packed or not. A run may come again.
    """

    axis: int
    spans: tuple[Span, ...]

    @property
    def count(self) -> int:
        """The length of the axis that is kept."""
        return sum(end - first for first, end in self.spans)

    def shape(self, whole: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is kept of a tensor."""
        kept = list(whole)
        kept[self.axis] = self.count
        return tuple(kept)

    def packing(self, module: str, stored: QuantizationConfig) -> QuantizationConfig:
        """The packing of what is kept of a weight: the stored one, or one in smaller groups.

        A group that a run begins or ends in is split, its scale taken for each part. ShareError
        where MLX has no groups so small.
        """
        ends = [end for span in self.spans for end in span] if self.axis == INPUTS else []
        for size in finer(stored):
            if not any(end % size for end in ends):
                return replace(stored, group_size=size)
        raise ShareError(
            f"{module} would be cut at inputs {', '.join(map(str, ends))}, inside groups of "
            f"{stored.group_size} packed numbers, which {stored.mode} cannot split so; share by "
            "layers, or name fewer Macs."
        )

    def words(self, packing: QuantizationConfig) -> "Keep":
        """The same of the words of 32 bits that a packed weight is stored in."""
        if self.axis != INPUTS:
            return self
        return Keep(INPUTS, tuple((packing.words(a), packing.words(b)) for a, b in self.spans))

    def groups(self, size: int) -> "Keep":
        """The same of scales, one for a group of `size` inputs: of all that a run touches."""
        if self.axis != INPUTS:
            return self
        return Keep(INPUTS, tuple((a // size, -(-b // size)) for a, b in self.spans))

    def split(self, scales: mx.array, size: int, own: int) -> mx.array:
        """Scales of the groups of `size` that runs touch -> those of their groups of `own`."""
        if self.axis != INPUTS or size == own:
            return scales
        places: list[int] = []
        begin = 0
        for (first, end), (a, b) in zip(self.spans, self.groups(size).spans, strict=True):
            places += [begin + at // size - a for at in range(first, end, own)]
            begin += b - a
        return mx.take(scales, mx.array(places), axis=-1)

    def of(self, array: mx.array) -> mx.array:
        """What is kept of an array that is at hand."""
        ahead = (slice(None),) * (self.axis % array.ndim)
        parts = [array[(*ahead, slice(*span))] for span in self.spans]
        return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=self.axis)

    def read(self, info: TensorInfo) -> mx.array:
        """What is kept of a tensor in a file; nothing else of it is read.

        CheckpointError for a file that cannot be read.
        """
        try:
            kind = numpy_name(info.dtype)
            lies = np.asarray(np.memmap(info.file, kind, "r", info.offset, info.shape))
            ahead = (slice(None),) * (self.axis % lies.ndim)
            parts = [lies[(*ahead, slice(*span))] for span in self.spans]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self.axis)
            array = mx.array(np.ascontiguousarray(whole))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{info.file}: {one_line(error)}; {CONVERT_AGAIN}.") from None
        dtype = mlx_dtype(MLX_NAMES[info.dtype])
        return array if array.dtype == dtype else array.view(dtype)  # numpy knows no bfloat16


Keeps = Mapping[str, Keep]
"""What is kept of the weight of a module, by its path; of one that is not named, all of it."""
