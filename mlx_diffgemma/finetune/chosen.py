"""The numbers of a checkpoint that are trained, adapters or all weights: made, read and written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

from ..checkpoint.adapter import LoraParameters
from ..checkpoint.config import ModelConfig
from ..errors import Setting, SettingsError
from ..model.text import Progress
from ..model.weights import load_network
from .lora import DEFAULT_TARGETS, initial, save_adapter, select, variables
from .parameters import Trained, TrainedAdapters, TrainedWeights, Values
from .whole import read_weights, write_checkpoint


class Chosen(Protocol):
    """Numbers that are trained; nothing is read before `load`."""

    @property
    def modules(self) -> tuple[str, ...] | None:
        """The modules with an adapter; None where all weights are trained."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """All that is alike in two runs of which one continues the other."""
        ...

    def load(self, seed: int, progress: Progress | None = None) -> tuple[Trained, Values]:
        """The network, and the first values of its variables."""
        ...

    def write(self, folder: Path, values: Values) -> None:
        """Put the values into a folder that `generate` takes."""
        ...


@dataclass(frozen=True)
class ChosenAdapters:
    """Adapters on modules of a checkpoint; SettingsError for unknown targets and wrong numbers.

    name: of the checkpoint, for people; dtype: of activations, None for the checkpoint's.
    """

    folder: Path
    config: ModelConfig
    name: str
    parameters: LoraParameters
    targets: tuple[str, ...] = DEFAULT_TARGETS
    dtype: mx.Dtype | None = None

    def __post_init__(self) -> None:
        scale, dropout = self.parameters.scale, self.parameters.dropout
        if not 0 < scale < math.inf:
            raise SettingsError(Setting("lora_scale"), f" is {scale}, expected a number above 0.")
        if not 0 <= dropout < 1:
            raise SettingsError(
                Setting("lora_dropout"), f" is {dropout}, expected 0 or more and below 1."
            )
        variables(self.config, self.modules, self.parameters.rank)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules with an adapter."""
        return select(self.config, self.targets)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Modules, rank, scale and dropout."""
        modules = list(self.modules)
        return {"trained": "adapters", "modules": modules, **vars(self.parameters)}

    def load(self, seed: int, progress: Progress | None = None) -> tuple[Trained, Values]:
        """The network with fresh adapters, which change nothing yet."""
        model = load_network(self.folder, self.dtype, progress).model
        modules, lora = self.modules, self.parameters
        trained = TrainedAdapters(model, modules, lora.scale, lora.dropout)
        return trained, initial(self.config, modules, lora.rank, seed)

    def write(self, folder: Path, values: Values) -> None:
        """Write an adapter's folder."""
        save_adapter(folder, values, self.parameters, self.folder, self.name)


@dataclass(frozen=True)
class ChosenWeights:
    """All weights of a checkpoint's text network, in float32.

    seeing: examples have images, for which the vision tower is loaded.
    """

    folder: Path
    config: ModelConfig
    seeing: bool = False

    @property
    def modules(self) -> None:
        """None: all weights are trained."""
        return None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing but that it is all weights."""
        return {"trained": "all weights"}

    def load(self, seed: int, progress: Progress | None = None) -> tuple[Trained, Values]:
        """The network's weights, unpacked."""
        values = read_weights(self.folder)
        model = load_network(self.folder, mx.float32, progress).model if self.seeing else None
        return TrainedWeights(self.config, tuple(values), model), values

    def write(self, folder: Path, values: Values) -> None:
        """Write a dense checkpoint."""
        write_checkpoint(self.folder, folder, values)
