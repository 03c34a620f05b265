"""The variables of training, by name, and the parts of the network that are made of them.

A part is made anew of its variables wherever it runs, so that gradients reach them by name, and a
layer whose activations are computed twice gets the same ones twice.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar

import mlx.core as mx

from ..checkpoint.config import ModelConfig
from ..checkpoint.vision import SIGHTLESS
from ..errors import CheckpointError
from ..images.pixels import Pixels
from ..machine.device import on_gpu
from ..model.adapters import (
    CONDITIONING,
    LAYERS,
    Dropout,
    adapted_conditioning,
    adapted_layer,
    adapters_of,
)
from ..model.blocks import Layer, SelfConditioning
from ..model.embedding import Embedding
from ..model.host import host_conditioning, host_embedding, host_layer
from ..model.matrices import Adapter
from ..model.text import Model
from ..model.weights import (
    EMBEDDING,
    ENCODER_LAYERS,
    GivenTensors,
    build_embedding,
    build_ends,
    build_layer,
)

Values = Mapping[str, mx.array]
Part = TypeVar("Part")


class Ends(NamedTuple):
    """The parts before and behind the layers."""

    embedding: Embedding
    conditioning: SelfConditioning
    final_norm: mx.array


class Trained(Protocol):
    """A network of which some numbers are variables."""

    config: ModelConfig

    def at(self, *moment: int) -> "Trained":
        """The same network at a step that these numbers name: dropout's zeros follow from them."""
        ...

    def names_of_embedding(self) -> list[str]:
        """The variables that the embedding is made of."""
        ...

    def names_of_layer(self, number: int) -> list[str]:
        """The variables that layer `number` is made of."""
        ...

    def embedding(self, values: Values) -> Embedding:
        """The embedding, made of its variables: the head and the soft embedding too."""
        ...

    def ends(self, values: Values) -> Ends:
        """The ends, made of the variables."""
        ...

    def layer(self, number: int, values: Values) -> Layer:
        """Layer `number`, made of its variables."""
        ...

    def features(self, pixels: Pixels) -> mx.array:
        """The features [soft_tokens, H] of an image: the vision tower is no variable."""
        ...


@dataclass
class TrainedAdapters:
    """Adapters on a frozen network: the variables NAME.lora_a and NAME.lora_b.

    dropout: the share of an adapter's input that is 0, at each step (see `at`) another one.
    packed: the weights stay in memory as the model has them, packed or in 16 bits. Otherwise, which
    only a CPU can do, they are unpacked to float32, by which numpy multiplies.
    """

    model: Model
    modules: tuple[str, ...]
    scale: float
    dropout: float = 0.0
    packed: bool = field(default_factory=on_gpu)
    drop: Dropout | None = field(init=False, default=None)
    base_ends: Ends = field(init=False)
    base_layers: list[Layer] = field(init=False)

    def __post_init__(self) -> None:
        model = self.model
        self.config = model.config
        self.base_ends = Ends(model.embedding, model.self_conditioning, model.final_norm)
        self.base_layers = [_in_operations(layer) for layer in model.layers]
        if not self.packed:
            embedding, conditioning, norm = self.base_ends
            conditioning = host_conditioning(_widened(conditioning))
            self.base_ends = Ends(host_embedding(embedding), conditioning, norm)
            self.base_layers = [host_layer(_widened_layer(layer)) for layer in self.base_layers]

    def at(self, *moment: int) -> "TrainedAdapters":
        """The network with the dropout of a step, which numbers such as seed and step name."""
        if not self.dropout:
            return self
        made = copy(self)
        made.drop = Dropout(self.dropout, moment)
        return made

    def names_of_embedding(self) -> list[str]:
        """None: the embedding has no adapter."""
        return []

    def embedding(self, values: Values) -> Embedding:
        """The embedding, which is frozen."""
        return self.base_ends.embedding

    def names_of_layer(self, number: int) -> list[str]:
        """The variables of the adapters in layer `number`."""
        inside = f"{LAYERS}.{number}."
        modules = [module for module in self.modules if module.startswith(inside)]
        return [f"{module}.{part}" for module in modules for part in ("lora_a", "lora_b")]

    def ends(self, values: Values) -> Ends:
        """The ends, with the adapters of self-conditioning."""
        embedding, conditioning, norm = self.base_ends
        own = self._adapters([m for m in self.modules if m.startswith(CONDITIONING)], values)
        return Ends(embedding, adapted_conditioning(conditioning, own), norm)

    def layer(self, number: int, values: Values) -> Layer:
        """Layer `number` with its adapters."""
        inside = f"{LAYERS}.{number}"
        own = self._adapters([m for m in self.modules if m.startswith(f"{inside}.")], values)
        return adapted_layer(self.base_layers[number], inside, own)

    def features(self, pixels: Pixels) -> mx.array:
        """The features [soft_tokens, H] of an image."""
        return self.model.image_features([pixels])[0]

    def _adapters(self, modules: list[str], values: Values) -> dict[str, Adapter]:
        return adapters_of(values, modules, self.scale, self.drop)


@dataclass
class TrainedWeights:
    """A network all of whose numbers are variables, under the names of its tensors, float32."""

    config: ModelConfig
    names: tuple[str, ...]
    model: Model | None = None  # whose vision tower images go through

    def at(self, *moment: int) -> "TrainedWeights":
        """The network itself: nothing in it is random."""
        return self

    def names_of_embedding(self) -> list[str]:
        """The tensor of the table."""
        return [f"{EMBEDDING}.weight"]

    def names_of_layer(self, number: int) -> list[str]:
        """The tensors of layer `number`; its scalar in the encoder has a name of its own."""
        inside = (f"{LAYERS}.{number}.", f"{ENCODER_LAYERS}.{number}.")
        return [name for name in self.names if name.startswith(inside)]

    def embedding(self, values: Values) -> Embedding:
        """The embedding, made of its tensor."""
        embedding = build_embedding(GivenTensors(self.config, values))
        return embedding if on_gpu() else host_embedding(embedding, trained=True)

    def ends(self, values: Values) -> Ends:
        """The ends, made of their tensors."""
        _, conditioning, norm = build_ends(GivenTensors(self.config, values))
        if not on_gpu():
            conditioning = host_conditioning(conditioning, trained=True)
        return Ends(self.embedding(values), conditioning, norm)

    def layer(self, number: int, values: Values) -> Layer:
        """Layer `number`, made of its tensors."""
        layer = _in_operations(build_layer(GivenTensors(self.config, values), number))
        return layer if on_gpu() else host_layer(layer, trained=True)

    def features(self, pixels: Pixels) -> mx.array:
        """The features [soft_tokens, H] of an image; CheckpointError where no tower is given."""
        if self.model is None:
            raise CheckpointError(SIGHTLESS)
        return self.model.image_features([pixels])[0]


def _in_operations(layer: Layer) -> Layer:
    """The layer without kernels, which have no gradient."""
    after = layer.after_attention
    experts = replace(after.experts, in_operations=True)
    return replace(layer, after_attention=replace(after, experts=experts))


def _widened_layer(layer: Layer) -> Layer:
    """The layer with norms and scalars in float32, as what numpy computes."""
    after = _widened(layer.after_attention)
    after.experts = _widened(after.experts)
    return replace(_widened(layer), attention=_widened(layer.attention), after_attention=after)


def _widened(part: Part) -> Part:
    """`part` with the arrays of its own in float32; its parts keep theirs."""
    made = copy(part)
    for name, array in vars(part).items():
        if isinstance(array, mx.array):
            setattr(made, name, array.astype(mx.float32))
    return made
