"""The small files of a target folder: config.json, index, tokenizer and the like, and the manifest.

The target's config.json is the source's in the spelling that every reader knows, with the sampler's
settings and the packing inlined, as mlx-vlm writes them. Source: config.json of mlx-community's
published folders.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..checkpoint.adapter import fused_adapters
from ..checkpoint.config import DTYPE_KEYS, FULL, SLIDING
from ..checkpoint.files import is_there, read_object
from ..checkpoint.quantization import KEYS as QUANTIZATION
from ..machine.files import json_bytes
from ..version import __version__
from .hashing import FileRecord
from .layout import launch_sizes
from .pack import mlx_version
from .plan import Plan
from .quantize import quantization_object
from .write import shard_header

CONFIG, GENERATION, INDEX = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
)
COPIED = (
    GENERATION,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
MANIFEST_FORMAT = 1


def small_files(plan: Plan, shard_names: list[str]) -> dict[str, bytes]:
    """Name and content of every file but the shards and the manifest."""
    folder = plan.source.folder
    files = {CONFIG: _json(target_config(plan)), INDEX: _json(_index(plan, shard_names))}
    for name in COPIED:
        if is_there(folder / name):
            files[name] = (folder / name).read_bytes()
    return files


def write_shapes_only(plan: Plan, folder: Path) -> None:
    """The target without a number: its config.json, and a file that ends behind its header."""
    (folder / CONFIG).write_bytes(_json(target_config(plan)))
    (folder / "model.safetensors").write_bytes(shard_header(plan.outputs))


def target_config(plan: Plan) -> dict[str, Any]:
    """config.json of the target, keys in order."""
    source = plan.source
    config = {
        key: value
        for key, value in source.raw_config.items()
        if key not in (*QUANTIZATION, *DTYPE_KEYS, "_name_or_path")
    }
    config["dtype"] = source.config.dtype
    config["text_config"] = _launch_spelling(plan)
    generation_file = source.folder / GENERATION
    if is_there(generation_file):
        config["generation_config"] = read_object(generation_file)
    if source.config.stop_ids:  # generation_config.json's override config.json's
        config["eos_token_id"] = list(source.config.stop_ids)
    if quantization := quantization_object(plan.recipe, plan.packed):
        config |= {"quantization": quantization, "quantization_config": quantization}
    return dict(sorted(config.items()))


def manifest(
    plan: Plan, sources: Mapping[str, FileRecord], files: Mapping[str, FileRecord]
) -> bytes:
    """conversion.json: source, recipe, versions, and the sha256 of every file read and written."""
    source = plan.source
    return _json(
        {
            "format": MANIFEST_FORMAT,
            "made_by": {"mlx-diffgemma": __version__, "mlx": mlx_version()},
            "source": {"id": source.name, "revision": source.revision, "files": _listed(sources)},
            "recipe": plan.recipe.told,
            "adapters": _adapters(plan),
            "tensor_count": len(plan.outputs),
            "tensor_bytes": plan.tensor_bytes,
            "dropped": list(plan.dropped),
            "unpacked_for_width": plan.unfit,
            "files": _listed(files),
        }
    )


def _launch_spelling(plan: Plan) -> dict[str, Any]:
    """text_config with the full layers' sizes as two keys: mlx-vlm knows no per_layer_config."""
    text = plan.source.config.text
    config = {
        key: value
        for key, value in plan.source.raw_config["text_config"].items()
        if key not in (*QUANTIZATION, *DTYPE_KEYS, "per_layer_config")
    }
    config["dtype"] = plan.source.config.dtype
    config |= launch_sizes(text)
    config["layer_types"] = [SLIDING if layer.sliding else FULL for layer in text.layers]
    config["final_logit_softcapping"] = text.final_logit_softcapping
    return config


def _index(plan: Plan, shard_names: list[str]) -> dict[str, Any]:
    where = {
        output.name: name
        for name, outputs in zip(shard_names, plan.shard_outputs, strict=True)
        for output in outputs
    }
    return {
        "metadata": {"total_size": plan.tensor_bytes},
        "weight_map": dict(sorted(where.items())),
    }


def _adapters(plan: Plan) -> list[str]:
    """Hashes of the adapters in the target's weights: those in the source's, and new ones."""
    new = {entry.added.key for entry in plan.entries if entry.added}
    return [*fused_adapters(plan.source.folder), *sorted(new)]


def _listed(records: Mapping[str, FileRecord]) -> list[dict[str, Any]]:
    return [{"name": name, **asdict(record)} for name, record in sorted(records.items())]


def _json(value: object) -> bytes:
    return json_bytes(value, indent=4)
