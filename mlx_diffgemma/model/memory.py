"""The memory that a checkpoint and a context need, and whether this machine has it.

Arithmetic over safetensors headers and config.json; no weight is read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.config import ModelConfig, read_config
from ..checkpoint.shards import TensorInfo, read_headers
from ..checkpoint.tensors import VISION
from ..errors import FitError
from ..machine.choices import Choices
from ..machine.dtypes import FLOAT_BYTES, FLOATS
from ..machine.memory import available_memory
from .scores import attention_bytes
from .text import PREFILL_CHUNK

WORKSPACE_BYTES = 1_000_000_000  # logits, activations; attention's come on top (attention_bytes)
KEPT_PACKED = re.compile(r"\.(experts|router)\.|^model\.encoder\.")
SLIDING_EXTRA = 1024 + 2048  # positions a sliding layer keeps or computes beyond its window


@dataclass(frozen=True)
class Footprint:
    """Bytes needed at a context length, and bytes there; available is None where unknown."""

    weight_bytes: int
    cache_bytes: int
    workspace_bytes: int
    available_bytes: int | None
    context: int

    @property
    def needed_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes + self.workspace_bytes

    @property
    def fits(self) -> bool | None:
        """True where what is needed is there; None where the machine does not say what it has."""
        if self.available_bytes is None:
            return None
        return self.needed_bytes <= self.available_bytes


def plan_memory(
    folder: Path, dtype: str | None = None, choices: Choices | None = None
) -> Callable[[int], Footprint]:
    """The Footprint of a checkpoint by the positions in its cache; the folder is read once, here.

    dtype: the activations' ("float32", ...); None takes that of `choices`, or the checkpoint's.
    """
    config, choices = read_config(folder), choices or Choices()
    dtype = dtype or choices.dtype
    item = FLOAT_BYTES.get(dtype or config.dtype, 2)
    headers = read_headers(folder)
    weights = _unpacked_bytes(config, headers, item) if choices.unpacks else 0
    for name, info in headers.items():
        if not VISION.match(name):
            weights += info.num_items * item if info.dtype in FLOATS else info.num_bytes

    def plan(context: int) -> Footprint:
        chunk = choices.prefill_chunk or PREFILL_CHUNK
        cache = cache_bytes(config, context, item, chunk)
        workspace = WORKSPACE_BYTES + attention_bytes(config, context, chunk, item)
        return Footprint(weights, cache, workspace, available_memory(), context)

    return plan


def _unpacked_bytes(config: ModelConfig, headers: Mapping[str, TensorInfo], item: int) -> int:
    """Bytes of the packed dense weights once unpacked: they stand beside each other while loading.

    Experts and router stay packed.
    """
    items = 0
    for name in headers:
        module, _, kind = name.rpartition(".")
        if kind == "scales" and config.quantization and not KEPT_PACKED.search(module):
            weight, bits = headers[f"{module}.weight"], config.quantization.of(module).bits
            items += weight.num_items * 32 // bits
    return items * item


def cache_bytes(
    config: ModelConfig, context: int, item_bytes: int, chunk: int = PREFILL_CHUNK
) -> int:
    """Bytes of keys and values for `context` positions, canvas included."""
    window = config.text.sliding_window + SLIDING_EXTRA + max(0, chunk - PREFILL_CHUNK)
    total = 0
    for layer in config.text.layers:
        kept = min(context, window) if layer.sliding else context
        total += 2 * kept * layer.num_key_value_heads * layer.head_dim * item_bytes
    return total


def fit_check(
    folder: Path, dtype: str | None = None, choices: Choices | None = None
) -> Callable[[int], None]:
    """FitError, with the numbers, for a context whose cache cannot fit beside the weights."""
    plan, tuned = plan_memory(folder, dtype, choices), choices not in (None, Choices())
    without = ", leave out what was tuned with --no-tune" if tuned else ""

    def check(context: int) -> None:
        need = plan(context)
        if need.fits is False:
            raise FitError(
                f"{folder.name} needs {sized(need.needed_bytes)} (weights "
                f"{sized(need.weight_bytes)}, cache for {context:,} positions "
                f"{sized(need.cache_bytes)}, workspace {sized(need.workspace_bytes)}), this "
                f"machine can give {sized(need.available_bytes or 0)}; take a smaller quantisation "
                f"or context{without}, or try anyway with --force."
            )

    return check


def sized(count: int) -> str:
    """Bytes in the decimal unit that shows them: GB, MB or kB."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
