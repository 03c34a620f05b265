"""The memory of Macs that share a network: arithmetic over headers; no other Mac is asked."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import mlx.core as mx

from ..checkpoint.adapter import AdapterFiles
from ..checkpoint.config import ModelConfig
from ..checkpoint.tensors import PromisedTensors
from ..errors import ShareError
from ..machine.choices import Choices
from ..machine.dtypes import mlx_dtype
from ..share.part import Cut, Part
from ..share.share import ALONE, cuts
from ..share.traffic import Sizes
from .adapters import applied
from .arrays import distinct_arrays
from .memory import Footprint, MemoryPlan, RoomCheck, fit_check, plan_memory, room_check
from .slices import own_heads
from .variants import variant
from .weighing import weigh
from .weights import build, chosen_dtype


@dataclass(frozen=True)
class SharedPlan:
    """The MemoryPlans of `size` Macs that share a network, by each cut.

    plan: of one that holds all. layer_bytes: weights of each layer; ends_bytes: embedding,
    self-conditioning, final norm and vision tower. tensors: by rank, the plan of its part of all
    tensors; refused: why so many cannot cut them, None where they can.
    """

    plan: MemoryPlan
    size: int
    ends_bytes: int
    layer_bytes: tuple[int, ...]
    tensors: Mapping[int, MemoryPlan] = field(default_factory=dict)
    refused: str | None = None

    @property
    def possible(self) -> tuple[Cut, ...]:
        """The cuts that have something for every Mac."""
        most = {"rows": self.plan.config.canvas_length, "layers": len(self.layer_bytes)}
        by_count: list[Cut] = [cut for cut in ("rows", "layers") if self.size <= most[cut]]
        return (*by_count, *(() if self.refused else ("tensor",)))

    def footprint(self, cut: Cut, rank: int, context: int, available: int | None) -> Footprint:
        """The Footprint of a rank, with its caches."""
        if cut == "layers":
            return self._layers_footprint(rank, context, available)
        plan = self.tensors[rank] if cut == "tensor" else self.plan
        return plan.footprint(context, available)

    def fullest(self, cut: Cut, context: int) -> Footprint:
        """The Footprint of the Mac that needs most."""
        ranks = {"rows": [0], "layers": range(self.size), "tensor": self.tensors}[cut]
        shares = [self.footprint(cut, rank, context, None) for rank in ranks]
        return max(shares, key=lambda need: need.needed_bytes)

    def largest_context(self, cut: Cut, available: int) -> int:
        """The longest context that fits into `available` bytes on each Mac; 0: none."""
        contexts = range(1, self.plan.config.text.max_position_embeddings + 1)
        return bisect_right(contexts, available, key=lambda n: self.fullest(cut, n).needed_bytes)

    def _layers_footprint(self, rank: int, context: int, available: int | None) -> Footprint:
        first, last = cuts(len(self.layer_bytes), self.size)[rank]
        weights = self.ends_bytes + sum(self.layer_bytes[first:last])
        cache = sum(self.plan.layer_cache_bytes(context)[first:last])
        computing, replaced = self.plan.computing_bytes(context), self.plan.replaced_bytes(context)
        workspace = max(computing, replaced, self._copied - cache)
        return Footprint(weights, cache, workspace, available, context)

    @cached_property
    def _copied(self) -> int:
        """Bytes of copies that stand beside the weights while they are loaded."""
        return self.plan.weights.loading_bytes - self.plan.weights.held_bytes


def shared_plan(
    folder: Path,
    plan: MemoryPlan,
    size: int,
    dtype: str | None = None,
    choices: Choices | None = None,
    *,
    shape_only: bool = False,
    adapter: AdapterFiles | None = None,
    ranks: Iterable[int] | None = None,
) -> SharedPlan:
    """The SharedPlan of a folder for `size` Macs.

    ranks: those whose part of all tensors is planned, None for all. For the other arguments see
    `plan_memory`, which made `plan`.
    """
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
    own = partial(
        weigh, folder, plan.config, computed, choices, shape_only=shape_only, adapter=adapter
    )
    by_rank, refused = {}, None
    try:
        for rank in range(size) if ranks is None else ranks:
            part = Part(replace(ALONE, rank=rank, size=size), "tensor")
            config = own_config(plan.config, part)
            by_rank[rank] = replace(plan, config=config, weights=own(part=part))
    except ShareError as error:
        refused = str(error)
    return SharedPlan(plan, size, _bytes(model) - sum(layers), layers, by_rank, refused)


def own_config(config: ModelConfig, part: Part) -> ModelConfig:
    """The config with the heads that are a rank's, by which caches and scores are as large.

    Of query heads the most that a layer has.
    """
    text = config.text
    heads = [own_heads(text, layer, part) for layer in text.layers]
    layers = tuple(own.of(layer) for own, layer in zip(heads, text.layers, strict=True))
    most = max(own.count for own in heads)
    return replace(config, text=replace(text, layers=layers, num_attention_heads=most))


def message_sizes(config: ModelConfig, item_bytes: int) -> Sizes:
    """The sizes of a network's messages, of numbers of so many bytes.

    Of a row's keys and values by rows; full layers send the values alone, of which keys are made.
    """
    text = config.text
    numbers = (
        (2 if layer.sliding else 1) * layer.num_key_value_heads * layer.head_dim
        for layer in text.layers
    )
    C, H = config.canvas_length, text.hidden_size
    return Sizes(C, H, tuple(numbers), text.vocab_size, item_bytes)


def part_check(
    part: Part,
    folder: Path,
    dtype: str | None = None,
    choices: Choices | None = None,
    adapter: AdapterFiles | None = None,
) -> RoomCheck:
    """`fit_check` for a part of the network: FitError for a context that does not fit beside it."""
    if not (part.in_stages or part.in_tensors):
        return fit_check(folder, dtype, choices, adapter)
    plan = plan_memory(folder, dtype, choices, adapter=adapter)
    rank, size = part.share.rank, part.share.size
    shared = shared_plan(folder, plan, size, dtype, choices, adapter=adapter, ranks=[rank])
    if shared.refused and part.in_tensors:
        raise ShareError(shared.refused)
    if part.in_tensors:
        name = f"{folder.name}, part {rank + 1} of {size} of all its tensors,"
    else:
        first, end = part.share.span(len(shared.layer_bytes))
        name = f"{folder.name}, layers {first} to {end - 1} of it,"
    return room_check(name, partial(shared.footprint, part.cut, rank), choices)


def _bytes(part: object) -> int:
    arrays: list[mx.array] = distinct_arrays(part)
    return sum(array.nbytes for array in arrays)
