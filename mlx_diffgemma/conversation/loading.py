"""A checkpoint loaded for conversations: the network, its tokenizer, and what they came from."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import mlx.core as mx

from ..assets import Task, embedded_task
from ..checkpoint.config import read_config
from ..checkpoint.hub import Source
from ..errors import CheckpointError
from ..kernels.verdicts import this_identity
from ..machine.choices import Choices
from ..machine.dtypes import dtype_name
from ..machine.memory import use_all_gpu_memory
from ..model.memory import fit_check
from ..model.text import Model, Progress
from ..model.weights import Loaded, load_network
from ..text.tokenizer import Tokenizer, load_tokenizer
from .reply import ModelInfo


def any_context(context: int) -> None:
    """Checks nothing: the user takes the risk."""


@dataclass(frozen=True)
class Engine:
    """A loaded network with what turns texts into its tokens and back.

    task: the problem an embedded checkpoint was trained on; dropped: tensors of the folder that the
    network does not use; tuned: choices for this machine; require_room: FitError for a number of
    positions whose cache does not fit into memory.
    """

    model: Model
    tokenizer: Tokenizer
    info: ModelInfo
    task: Task | None = None
    load_seconds: float = 0.0
    dropped: tuple[str, ...] = ()
    tuned: Choices | None = None
    require_room: Callable[[int], None] = any_context


def load_engine(
    source: Source,
    dtype: mx.Dtype | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    choices: Choices | None = None,
    began: float | None = None,
) -> Engine:
    """The Engine of a checkpoint folder; for the options see `load`.

    began: the moment from which load_seconds count, on the clock of time.perf_counter.
    """
    began = time.perf_counter() if began is None else began
    name = None if dtype is None else dtype_name(dtype)
    require_room = any_context if force else fit_check(source.folder, name, choices)
    require_room(0)
    tokenizer = load_tokenizer(source.folder)
    _require_same_vocabulary(source.folder, tokenizer)
    loaded = load_network(source.folder, dtype, progress, choices)
    use_all_gpu_memory()
    return Engine(
        loaded.model,
        tokenizer,
        _describe(source, loaded),
        embedded_task(source.folder),
        load_seconds=time.perf_counter() - began,
        dropped=loaded.dropped,
        tuned=choices,
        require_room=require_room,
    )


def place_of(folder: Path, revision: str | None, dtype: str | None) -> str:
    """The place tuned choices hold for: this machine with its versions, and a model on it.

    dtype: of the activations as asked for, None for the checkpoint's. The config's hash tells apart
    models that one folder has held in turn.
    """
    config = read_config(folder)
    quantization = config.quantization.default.name if config.quantization else "not quantised"
    content = sha256((folder / "config.json").read_bytes()).hexdigest()[:12]
    model = f"{folder.resolve()}, revision {revision or 'unknown'}, config {content}"
    return f"{this_identity()}; {model}, {quantization}, activations {dtype or config.dtype}"


def _require_same_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    vocab_size = read_config(folder).text.vocab_size
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} has ids up to {tokenizer.vocab_size - 1}, the "
            f"model has {vocab_size}; the tokenizer belongs to another checkpoint."
        )


def _describe(source: Source, loaded: Loaded) -> ModelInfo:
    config = loaded.model.config
    return ModelInfo(
        path=str(source.folder),
        revision=source.revision,
        quantization=config.quantization.default.name if config.quantization else None,
        layers=len(config.text.layers),
        parameters=loaded.num_parameters,
    )
