"""What a checkpoint folder holds, part by part: numbers, bytes and packing, from headers alone.

No weight is read and nothing is drawn. A part's parameters count packed weights unpacked and leave
scales and biases out, as the count of a loaded model does; its bytes are those of the file.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import ModelConfig
from .errors import CheckpointError
from .footprint import Footprint, cache_bytes
from .model.shards import CONVERT_AGAIN, TensorInfo, read_headers
from .model.tensors import CLIPPING, ENCODER_COPY, VISION

LAYER = r"model\.decoder\.layers\.\d+\."
PARTS: Mapping[str, re.Pattern[str]] = {
    "embedding": re.compile(r"model\.decoder\.embed_tokens\."),
    "attention": re.compile(LAYER + r"self_attn\.[qkvo]_proj\."),
    "dense MLP": re.compile(LAYER + r"mlp\."),
    "experts": re.compile(LAYER + r"experts\."),
    "router": re.compile(LAYER + r"router\."),
    "self-conditioning": re.compile(r"model\.decoder\.self_conditioning\."),
    "norms": re.compile(
        rf"({LAYER}(\w+norm\w*|self_attn\.[qk]_norm)\.|model\.decoder\.norm\.|.*\.layer_scalar$)"
    ),
    "vision": VISION,
}
"""The parts in the order they are shown; a tensor belongs to the first that matches its name."""

SCALES = (".scales", ".biases")
DTYPE_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Part:
    """One part of the network; packing names the ways its weights are stored, the largest first."""

    name: str
    parameters: int
    bytes: int
    packing: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """All parts of a folder, and the names of tensors that no part uses."""

    parts: tuple[Part, ...]
    dropped: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Numbers in the text network: what a loaded model reports."""
        return sum(part.parameters for part in self.parts if part.name != "vision")


def take_inventory(folder: Path, config: ModelConfig) -> Inventory:
    """Sorts a folder's tensors into parts; CheckpointError for one that is missing or unknown."""
    headers = read_headers(folder)
    _require_modules(headers, config, folder)
    sorted_in: dict[str, list[str]] = {name: [] for name in PARTS}
    dropped = []
    for name in sorted(headers):
        if _is_stray(name, config):
            dropped.append(name)
        else:
            sorted_in[_part_of(name, folder)].append(name)
    parts = tuple(_part(part, names, headers, config) for part, names in sorted_in.items() if names)
    return Inventory(parts, tuple(dropped))


def largest_context(config: ModelConfig, need: Footprint, item_bytes: int) -> int | None:
    """The longest context whose cache fits beside the weights; 0: not even the weights fit.

    None where the machine does not say what it has.
    """
    if need.available_bytes is None:
        return None
    room = need.available_bytes - need.weight_bytes - need.workspace_bytes
    if room < 0:
        return 0
    fits, too_long = 0, config.text.max_position_embeddings + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if cache_bytes(config, middle, item_bytes) <= room:
            fits = middle
        else:
            too_long = middle
    return fits


def _part_of(name: str, folder: Path) -> str:
    for part, pattern in PARTS.items():
        if pattern.match(name):
            return part
    raise CheckpointError(
        f"{name} in {folder}: this tensor is not part of the model; convert the original bf16 "
        "checkpoint."
    )


def _is_stray(name: str, config: ModelConfig) -> bool:
    """Whether a tensor is known to be superfluous; the same rule as when weights are bound."""
    return (
        name == "lm_head.weight"
        or "rotary_emb" in name
        or bool(ENCODER_COPY.match(name))
        or (bool(CLIPPING.search(name)) and not config.use_clipped_linears)
    )


def _part(
    part: str, names: list[str], headers: Mapping[str, TensorInfo], config: ModelConfig
) -> Part:
    counts: Counter[str] = Counter()
    for name in names:
        if not name.endswith(SCALES):
            items, packing = _unpacked(name, headers, config)
            counts[packing] += items
    total_bytes = sum(headers[name].num_bytes for name in names)
    packing_names = tuple(packing for packing, _ in counts.most_common())
    return Part(part, counts.total(), total_bytes, packing_names)


def _unpacked(name: str, headers: Mapping[str, TensorInfo], config: ModelConfig) -> tuple[int, str]:
    """How many numbers a tensor holds, and how they are packed."""
    info, module = headers[name], name.removesuffix(".weight")
    if f"{module}.scales" not in headers:
        return info.num_items, DTYPE_NAMES.get(info.dtype, info.dtype)
    if config.quantization is None:
        raise CheckpointError(
            f"{module}.scales is in {info.file.parent}, but config.json has no quantization."
        )
    packing = config.quantization.of(module)
    name = f"{packing.bits}-bit {packing.mode}, groups of {packing.group_size}"
    return info.num_items * 32 // packing.bits, name


def _require_modules(headers: Mapping[str, TensorInfo], config: ModelConfig, folder: Path) -> None:
    """CheckpointError names the first module that has no tensor; shapes are checked on loading."""
    modules = {re.sub(r"\.(weight|scales|biases)$", "", name) for name in headers}
    modules |= {re.sub(r"\.0\.(gate|up)_proj$", ".gate_up_proj", name) for name in modules}
    modules |= {re.sub(r"\.experts\.0\.down_proj$", ".experts.down_proj", name) for name in modules}
    for module in _expected_modules(config):
        if module not in modules:
            raise CheckpointError(f"{module}: missing in {folder}; {CONVERT_AGAIN}.")


def _expected_modules(config: ModelConfig) -> Iterator[str]:
    decoder = "model.decoder"
    yield f"{decoder}.embed_tokens"
    yield from (f"{decoder}.self_conditioning.{part}_proj" for part in ("gate", "up", "down"))
    yield from (f"{decoder}.self_conditioning.pre_norm", f"{decoder}.norm")
    for number, layer in enumerate(config.text.layers):
        at = f"{decoder}.layers.{number}"
        yield from (f"{at}.self_attn.{p}_proj" for p in ("qkvo" if layer.sliding else "qko"))
        yield from (f"{at}.{name}" for name in LAYER_MODULES)
        yield f"model.encoder.language_model.layers.{number}.layer_scalar"


LAYER_MODULES = (
    *("self_attn.q_norm", "self_attn.k_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    *("router.proj", "router.scale", "router.per_expert_scale"),
    *("experts.gate_up_proj", "experts.down_proj", "layer_scalar", "input_layernorm"),
    *("post_attention_layernorm", "pre_feedforward_layernorm", "pre_feedforward_layernorm_2"),
    *("post_feedforward_layernorm", "post_feedforward_layernorm_1", "post_feedforward_layernorm_2"),
)
