"""The part of a tensor that one Mac keeps: runs of an axis, of which alone the bytes are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..errors import CheckpointError, ShareError, one_line
from ..machine.dtypes import FLOATS, mlx_dtype, numpy_name
from ..share.share import Span
from .quantization import QuantizationConfig
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

    def packed(self, module: str, packing: QuantizationConfig) -> tuple["Keep", "Keep"]:
        """The same of a packed weight's words of 32 bits, and of its groups.

        ShareError where a run of inputs begins or ends inside a group: its numbers share a scale.
        """
        if self.axis != INPUTS:
            return self, self
        for first, end in self.spans:
            if first % packing.group_size or end % packing.group_size:
                raise ShareError(
                    f"{module} would be cut into inputs {first} to {end - 1}, inside a group of "
                    f"{packing.group_size} packed numbers; expected whole groups: share by layers, "
                    "name fewer Macs, or convert in smaller groups."
                )
        words = tuple((packing.words(a), packing.words(b)) for a, b in self.spans)
        groups = tuple((a // packing.group_size, b // packing.group_size) for a, b in self.spans)
        return Keep(self.axis, words), Keep(self.axis, groups)

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
        return array.view(mlx_dtype(FLOATS["BF16"])) if info.dtype == "BF16" else array
