"""`info`: what a checkpoint is and whether this machine can hold it, without loading it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingsError
from . import options

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..footprint import Footprint
    from ..hub import Source
    from ..inventory import Inventory

DEFAULT_CONTEXT = 8192

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="MODEL", help=options.MODEL_HELP, show_default=False)
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="N",
        help="Positions to plan memory for, prompt and answer. Default: 8192, or all there are.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Facts:
    """All that `info` shows."""

    source: "Source"
    config: "ModelConfig"
    dtype: str
    inventory: "Inventory"
    need: "Footprint"
    largest_context: int | None
    has_tokenizer: bool
    has_template: bool


def command(
    model: ModelArgument = None,
    context: Context = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    offline: options.Offline = False,
) -> int:
    """Show a model's sizes, packing and memory, and whether this machine can hold it.

    Reads headers only; no weight is loaded. Nothing is downloaded.
    """
    from ..hub import default_model, find_model
    from .output import write_json, write_out

    name = default_model() if model is None else model
    facts = gather(find_model(name, offline=offline), context, dtype)
    if as_json:
        write_json(describe(facts))
    else:
        from .info_text import lines

        write_out("\n".join(lines(facts)) + "\n")
    return 0


def gather(source: "Source", context: int | None, dtype: str | None) -> Facts:
    """Reads a folder's small files and headers."""
    from ..config import read_config
    from ..footprint import DTYPE_BYTES, footprint
    from ..inventory import largest_context, take_inventory

    folder = source.folder
    config = read_config(folder)
    positions = _checked_context(context, config.text.max_position_embeddings)
    dtype = dtype or config.dtype
    need = footprint(folder, positions, dtype)
    return Facts(
        source=source,
        config=config,
        dtype=dtype,
        inventory=take_inventory(folder, config),
        need=need,
        largest_context=largest_context(config, need, DTYPE_BYTES.get(dtype, 2)),
        has_tokenizer=(folder / "tokenizer.json").is_file(),
        has_template=_has_template(folder),
    )


def describe(facts: Facts) -> dict[str, Any]:
    """What `info --json` prints."""
    config, text, need = facts.config, facts.config.text, facts.need
    sliding = sum(layer.sliding for layer in text.layers)
    return {
        "path": str(facts.source.folder),
        "revision": facts.source.revision,
        "model_type": "diffusion_gemma",
        "dtype": facts.dtype,
        "parameters": facts.inventory.parameters,
        "layers": {
            "total": len(text.layers),
            "sliding": sliding,
            "full": len(text.layers) - sliding,
        },
        "canvas_length": config.canvas_length,
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "experts": {"total": text.num_experts, "used": text.top_k_experts},
        "quantization": config.quantization.default.name if config.quantization else None,
        "parts": [asdict(part) for part in facts.inventory.parts],
        "sampler": asdict(config.sampler),
        "stop_ids": list(config.stop_ids),
        "tokenizer": facts.has_tokenizer,
        "chat_template": facts.has_template,
        "memory": {
            "weights_bytes": need.weight_bytes,
            "cache_bytes": need.cache_bytes,
            "workspace_bytes": need.workspace_bytes,
            "needed_bytes": need.needed_bytes,
            "available_bytes": need.available_bytes,
            "fits": need.fits,
            "context": need.context,
            "largest_context": facts.largest_context,
        },
        "dropped": list(facts.inventory.dropped),
    }


def _checked_context(context: int | None, most: int) -> int:
    if context is None:
        return min(DEFAULT_CONTEXT, most)
    if not 1 <= context <= most:
        raise SettingsError(f"--context is {context:,}, expected 1 to {most:,} for this model.")
    return context


def _has_template(folder: Path) -> bool:
    from ..text.files import read_object
    from ..text.template import find_template

    file = folder / "tokenizer_config.json"
    return find_template(folder, read_object(file) if file.is_file() else {}) is not None
