"""Sessions made from a checkpoint: found, checked against this machine, and loaded."""

import time
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import mlx.core as mx

from ..assets import TASKS
from ..checkpoint.adapter import AdapterFiles, open_adapter, require_adapter
from ..checkpoint.bars import library_bars
from ..checkpoint.config import read_config
from ..checkpoint.fetch import unheard
from ..checkpoint.hub import Consent, Source, find_model
from ..errors import CheckpointError, Setting, SettingsError
from ..kernels import dispatch
from ..kernels.verdicts import this_identity
from ..machine.choices import Choices
from ..machine.dtypes import dtype_name
from ..machine.memory import use_all_gpu_memory
from ..machine.pauses import Pauses
from ..model.adapters import applied
from ..model.shares import part_check
from ..model.text import Model, Progress
from ..model.variants import evaluate
from ..model.weights import Loaded, load_network
from ..share.part import Cut, Part
from ..share.share import ALONE, Share
from ..text.tokenizer import Tokenizer, load_tokenizer
from .agreement import agreed_room, loaded_alike, require_parts, require_same_load
from .reply import ModelInfo
from .session import Session
from .state import any_context

INSTEAD = 'so does load(..., download=True), and "tiny-chat" works now, without a download'


def load(
    model: str | Path,
    dtype: mx.Dtype | None = None,
    *,
    offline: bool = False,
    download: bool = False,
    force: bool = False,
    consent: Consent | None = None,
    progress: Progress | None = None,
    choices: Choices | None = None,
    adapter: str | Path | None = None,
    gentle: bool = False,
    share: Share = ALONE,
    cut: Cut = "rows",
) -> Session:
    """A Session with `model`: a folder, a repository id, "tiny-chat" or "tiny-sudoku".

    dtype: of the activations, None for the checkpoint's own. download: fetch a repository that is
    not in the local cache, without a question; consent is asked about it in its place. With neither
    only the local cache is looked at. A download has huggingface_hub's bars. FitError when it
    cannot fit, unless `force`. progress is told of loaded layers. choices: what suits this machine.
    adapter: the folder of one to apply, CheckpointError where it does not belong to the model.
    gentle: pauses leave the GPU to others for a fifth of the time; the texts stay the same.
    share, cut: this process's rank among several Macs, and what each computes a part of; ShareError
    where they have not all the same to load.
    SettingsError when $MLX_DIFFGEMMA_KERNELS asks for what this machine cannot do.
    """
    began = time.perf_counter()
    dispatch.require_usable()
    if adapter is not None:
        require_adapter(Path(adapter))  # before a download
    asked = _consent(download, consent, offline)
    with library_bars() if asked else nullcontext(unheard) as bars:
        source = find_model(model, offline=offline, consent=asked, progress=bars, instead=INSTEAD)
    session = load_source(
        source,
        dtype,
        force=force,
        progress=progress,
        choices=choices,
        adapter=adapter,
        gentle=gentle,
        share=share,
        cut=cut,
    )
    session.load_seconds = time.perf_counter() - began
    return session


def _consent(download: bool, given: Consent | None, offline: bool) -> Consent | None:
    """The answer to the question before a download; SettingsError for more than one."""
    if not download:
        return given
    if given is not None or offline:
        other = Setting("consent" if given is not None else "offline")
        raise SettingsError(
            *(Setting("download"), " is given beside ", other),
            ", expected one of them: both say whether to fetch the model; leave one out.",
        )
    return lambda download: True


def load_source(
    source: Source,
    dtype: mx.Dtype | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    choices: Choices | None = None,
    adapter: str | Path | None = None,
    gentle: bool = False,
    share: Share = ALONE,
    cut: Cut = "rows",
) -> Session:
    """A Session with the checkpoint in a folder; for the options see `load`."""
    began, part = time.perf_counter(), Part(share, cut)
    name = None if dtype is None else dtype_name(dtype)
    files = None if adapter is None else open_adapter(adapter, source.folder)
    require_same_load(part, source.folder, name, choices, files)
    require_parts(source.folder, part)
    require_room = any_context
    if not force:
        require_room = part_check(part, source.folder, name, choices, files)
    require_room(0)
    tokenizer = load_tokenizer(source.folder)
    _require_same_vocabulary(source.folder, tokenizer)
    loaded = load_network(source.folder, dtype, progress, choices, part)
    model = with_adapter(loaded, files) if files else loaded.model
    if gentle:
        model.pauses = Pauses()
    use_all_gpu_memory()
    return Session(
        model,
        tokenizer,
        _describe(source, loaded),
        TASKS[model.config.task]() if model.config.task else None,
        load_seconds=time.perf_counter() - began,
        dropped=loaded.dropped,
        tuned=choices,
        require_room=agreed_room(share, require_room),
        name=name_of(source.folder),
        adapter=None if files is None else str(files.folder),
    )


def load_model(
    folder: str | Path, dtype: mx.Dtype | None = None, adapter: str | Path | None = None
) -> Model:
    """The network of a checkpoint folder alone; no tokenizer is looked for.

    adapter: the folder of one to apply, CheckpointError where it does not belong to the model.
    """
    found = find_model(folder, offline=True).folder
    files = None if adapter is None else open_adapter(adapter, found)
    loaded = load_network(found, dtype)
    return with_adapter(loaded, files) if files else loaded.model


def with_adapter(loaded: Loaded, files: AdapterFiles) -> Model:
    """A network, or a part of it, with the adapters of a folder, of which it takes the same part.

    CheckpointError where they are not finite, on all Macs alike.
    """
    own = replace(files, keeps=loaded.keeps)
    values = loaded_alike(loaded.model.part.share, own.load)
    made = applied(loaded.model, values, files.parameters.scale)
    for part in (made.self_conditioning, *made.layers):
        evaluate(part)
    return made


def name_of(folder: Path) -> str:
    """The name of a checkpoint folder, or of the repository that it is a snapshot of."""
    kind, *parts = folder.parent.parent.name.split("--")
    snapshot = folder.parent.name == "snapshots" and kind == "models" and parts
    return "/".join(parts) if snapshot else folder.resolve().name


def place_of(folder: Path, revision: str | None, dtype: str | None) -> str:
    """The place tuned choices hold for: this machine with its versions, and a model on it.

    dtype: of the activations as asked for, None for the checkpoint's. The config's hash tells apart
    models that one folder has held in turn.
    """
    config = read_config(folder)
    quantization = config.packing or "not quantised"
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
        quantization=config.packing,
        layers=len(config.text.layers),
        parameters=loaded.num_parameters,
    )
