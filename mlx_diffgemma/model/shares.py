"""The memory of Macs that share a network: arithmetic over headers; no other Mac is asked."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import mlx.core as mx

from ..checkpoint.adapter import AdapterFiles
from ..checkpoint.tensors import PromisedTensors
from ..machine.choices import Choices
from ..machine.dtypes import mlx_dtype
from ..share.part import Part
from ..share.share import Span, cuts
from .adapters import applied
from .arrays import distinct_arrays
from .memory import Footprint, MemoryPlan, RoomCheck, fit_check, plan_memory, room_check
from .variants import variant
from .weights import build, chosen_dtype


@dataclass(frozen=True)
class SharedPlan:
    """A MemoryPlan by layers: bytes of each one's weights, and of what every Mac holds beside them.

    ends_bytes: embedding, self-conditioning, final norm and vision tower.
    """

    plan: MemoryPlan
    ends_bytes: int
    layer_bytes: tuple[int, ...]

    def footprint(self, span: Span, context: int, available: int | None) -> Footprint:
        """The Footprint of a Mac that holds the layers of `span`, and their cache."""
        first, last = span
        weights = self.ends_bytes + sum(self.layer_bytes[first:last])
        cache = sum(self.plan.layer_cache_bytes(context)[first:last])
        return Footprint(weights, cache, self._workspace(context, cache), available, context)

    def fullest(self, size: int, context: int) -> Footprint:
        """The Footprint of the Mac that needs most, of `size` that share the layers."""
        shares = [self.footprint(span, context, None) for span in cuts(len(self.layer_bytes), size)]
        return max(shares, key=lambda need: need.needed_bytes)

    def largest_context(self, size: int, available: int) -> int:
        """The longest context that fits into `available` bytes on each of `size` Macs; 0: none."""
        contexts = range(1, self.plan.config.text.max_position_embeddings + 1)
        return bisect_right(contexts, available, key=lambda n: self.fullest(size, n).needed_bytes)

    @cached_property
    def _copied(self) -> int:
        """Bytes of copies that stand beside the weights while they are loaded."""
        return self.plan.weights.loading_bytes - self.plan.weights.held_bytes

    def _workspace(self, context: int, cache: int) -> int:
        computing, replaced = self.plan.computing_bytes(context), self.plan.replaced_bytes(context)
        return max(computing, replaced, self._copied - cache)


def shared_plan(
    folder: Path,
    plan: MemoryPlan,
    dtype: str | None = None,
    choices: Choices | None = None,
    *,
    shape_only: bool = False,
    adapter: AdapterFiles | None = None,
) -> SharedPlan:
    """The SharedPlan of a folder; for the arguments see `plan_memory`, which made `plan`."""
    choices = choices or Choices()
    computed = mlx_dtype(dtype) if dtype else chosen_dtype(plan.config, choices)
    tensors = PromisedTensors(folder, plan.config, computed, shape_only=shape_only)
    model = build(tensors, lambda layer, part: None)
    if choices.alter:
        model = variant(model, choices, lambda part: None)
    if adapter:
        values = {name: mx.zeros(shape) for name, shape in adapter.shapes.items()}
        model = applied(model, values, adapter.parameters.scale)
    layers = tuple(_bytes(layer) for layer in model.layers)
    return SharedPlan(plan, _bytes(model) - sum(layers), layers)


def part_check(
    part: Part,
    folder: Path,
    dtype: str | None = None,
    choices: Choices | None = None,
    adapter: AdapterFiles | None = None,
) -> RoomCheck:
    """`fit_check` for a part of the network: FitError for a context that does not fit beside it."""
    if not part.in_stages:
        return fit_check(folder, dtype, choices, adapter)
    plan = plan_memory(folder, dtype, choices, adapter=adapter)
    shared = shared_plan(folder, plan, dtype, choices, adapter=adapter)
    own = part.share.span(len(shared.layer_bytes))
    name = f"{folder.name}, layers {own[0]} to {own[1] - 1} of it,"
    return room_check(name, partial(shared.footprint, own), choices)


def _bytes(part: object) -> int:
    arrays: list[mx.array] = distinct_arrays(part)
    return sum(array.nbytes for array in arrays)
