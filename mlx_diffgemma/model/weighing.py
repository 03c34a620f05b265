"""The bytes that a network's weights take in memory, without reading one.

The loader itself builds the network, of arrays that nothing computes, and these are counted: what
is left out, cast, joined, stacked, widened or unpacked is described nowhere else.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import mlx.core as mx

from ..checkpoint.adapter import AdapterFiles
from ..checkpoint.config import ModelConfig
from ..checkpoint.tensors import PromisedTensors
from ..checkpoint.vision import VisionConfig
from ..machine.choices import Choices
from ..machine.device import on_gpu
from ..machine.dtypes import MLX_NAMES, mlx_dtype
from ..share.part import WHOLE, Part
from .adapters import applied
from .arrays import distinct_arrays
from .slices import network_keeps
from .variants import variant
from .weights import build

# Copies of an array, each as large as it, that may stand beside it while it is made. MLX allocates
# for a whole chain of operations before the first is done (0.32).
MAKING = 3  # the tensors it comes from, cast, and stacked or joined: 2.8 measured (docs/log.md)
UNPACKING_ON_CPU = 6  # there MLX unpacks in single operations: 4.2 measured

Form = tuple[mx.Dtype, int]  # dtype and count of items


@dataclass(frozen=True)
class Weights:
    """Bytes of a network's arrays: those that stay, and the most that are there while loading.

    vision: the sizes of the vision tower among them, None where there is none.
    """

    held_bytes: int
    loading_bytes: int
    vision: VisionConfig | None = None


def weigh(
    folder: Path,
    config: ModelConfig,
    dtype: mx.Dtype,
    choices: Choices,
    *,
    shape_only: bool = False,
    adapter: AdapterFiles | None = None,
    part: Part = WHOLE,
) -> Weights:
    """The bytes that `load_network` will hold of `folder`, or a part, on the back end at hand.

    Counted are all arrays of the built network, the vision tower with it, in the dtypes and layouts
    that it computes with. Files are read into memory of MLX's own, not mapped. While loading,
    copies of the array at hand stand beside those that are there (an upper bound), and all packed
    weights beside the unpacked ones. adapter: one that is applied, or its part. shape_only: the
    files may end behind their headers. CheckpointError for a folder that would not load,
    ShareError for a network that cannot be cut so.
    """
    tensors = PromisedTensors(folder, config, dtype, shape_only=shape_only)
    scales = _Scales(tensors)
    model = build(tensors, lambda layer, bound: scales.add(bound, MAKING), part)
    unpacking = MAKING if on_gpu() else UNPACKING_ON_CPU
    made = variant(model, choices, lambda part: scales.add(part, unpacking))
    if adapter:
        own = replace(adapter, keeps=network_keeps(config.text, tensors.packing, part))
        values = {name: mx.zeros(shape) for name, shape in own.shapes.items()}
        made = applied(made, values, adapter.parameters.scale)
        scales.add([values, made], MAKING)
    held = sum(array.nbytes for array in distinct_arrays(made))
    return Weights(held, scales.peak_bytes, tensors.vision)


@dataclass
class _Scales:
    """The arrays of the parts that were added, and the most bytes that were there at a time."""

    tensors: PromisedTensors
    arrays: dict[int, mx.array] = field(default_factory=dict)  # by id, which keeps them alive
    seen: set[str] = field(default_factory=set)
    held_bytes: int = 0
    peak_bytes: int = 0

    def add(self, part: object, copies: int) -> None:
        """Count a part that is about to be computed, an array at a time."""
        new = {id(a): a for a in distinct_arrays(part) if id(a) not in self.arrays}
        self.arrays |= new
        stored = self._stored_forms()
        copied = max((a.nbytes for a in new.values() if _is_copied(a, stored)), default=0)
        self.held_bytes += sum(array.nbytes for array in new.values())
        self.peak_bytes = max(self.peak_bytes, self.held_bytes + copies * copied)

    def _stored_forms(self) -> set[Form]:
        """The forms of the tensors that were taken for the last part."""
        taken = self.tensors.used - self.seen
        self.seen |= taken
        infos = (self.tensors.headers[name] for name in taken)
        return {(mlx_dtype(MLX_NAMES[info.dtype]), info.num_items) for info in infos}


def _is_copied(array: mx.array, stored: set[Form]) -> bool:
    """False for an array as it was read; True for one cast, joined, or laid out for the CPU."""
    laid_out = mx.issubdtype(array.dtype, mx.floating) and not on_gpu()
    return laid_out or (array.dtype, array.size) not in stored
