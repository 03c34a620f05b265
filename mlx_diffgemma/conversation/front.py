"""A checkpoint without its weights: what questions are checked, rendered and encoded with.

Nothing here computes with MLX, so that a question can be prepared in any thread, and while the
weights are not loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..assets import TASKS, Task
from ..checkpoint.config import ModelConfig, read_config
from ..checkpoint.tensors import StoredTensors
from ..machine.choices import ModeTimes
from ..model.text import Model
from ..text.tokenizer import Tokenizer, load_tokenizer
from .form import Forms


@dataclass(frozen=True)
class Front:
    """A checkpoint's tokenizer, config and forms.

    config: its vision is None where no image can be given; task: the kind of problem that the
    checkpoint was trained on; mode_times: those that were tuned, if they were.
    """

    tokenizer: Tokenizer
    config: ModelConfig
    forms: Forms
    name: str
    task: Task | None = None
    mode_times: ModeTimes | None = None

    @property
    def context_length(self) -> int:
        """Positions the model has for prompt and answer."""
        return self.config.text.max_position_embeddings


def open_front(folder: Path, name: str, mode_times: ModeTimes | None = None) -> Front:
    """The Front of a checkpoint folder, of which headers are read and no weights.

    CheckpointError for what would not load.
    """
    tokenizer, config = load_tokenizer(folder), read_config(folder)
    config = seeing(config, StoredTensors(folder, config).vision is not None)
    tokenizer = within_context(tokenizer, config)
    task = TASKS[config.task]() if config.task else None
    return Front(tokenizer, config, Forms(tokenizer, config), name, task, mode_times)


def within_context(tokenizer: Tokenizer, config: ModelConfig) -> Tokenizer:
    """The same, which refuses a text that the context cannot hold before it encodes it."""
    return replace(tokenizer, most=config.text.max_position_embeddings)


def config_of(model: Model) -> ModelConfig:
    """The config of a loaded model, as a Front has it."""
    return seeing(model.config, model.vision is not None)


def seeing(config: ModelConfig, sees: bool) -> ModelConfig:
    """The config, without vision where there is no tower."""
    return config if sees or config.vision is None else replace(config, vision=None)
