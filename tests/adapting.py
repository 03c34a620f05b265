"""Adapters with random numbers, as folders and in memory."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_diffgemma.checkpoint.adapter import CONFIG, TENSORS, LoraParameters
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.finetune.lora import save_adapter, select, variables

Values = dict[str, mx.array]


def random_values(base: Path, targets: Sequence[str] = ("all",), rank: int = 2) -> Values:
    """Values of adapters on `targets`, neither factor zero, so that they change the logits."""
    config = read_config(base)
    shapes = variables(config, select(config, targets), rank)
    return {
        name: mx.random.normal(shape, key=mx.random.key(number)) * shape[-2] ** -0.5
        for number, (name, shape) in enumerate(shapes.items())
    }


def write_adapter(
    folder: Path,
    base: Path,
    targets: Sequence[str] = ("all",),
    *,
    rank: int = 2,
    scale: float = 0.5,
) -> Values:
    """Writes an adapter of random values for the checkpoint `base`, and returns them."""
    values = random_values(base, targets, rank)
    save_adapter(folder, values, LoraParameters(rank, scale), base, base.name)
    return values


def edit_adapter(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrites adapter_config.json after `change` has worked on it."""
    content = json.loads((folder / CONFIG).read_text())
    change(content)
    (folder / CONFIG).write_text(json.dumps(content))


def edit_tensors(folder: Path, change: Callable[[Values], Mapping[str, mx.array]]) -> None:
    """Rewrites adapters.safetensors with what `change` makes of its tensors."""
    file = folder / TENSORS
    arrays: Values = mx.load(str(file))  # type: ignore[assignment]
    mx.eval(arrays)
    mx.save_safetensors(str(file), dict(change(arrays)))
