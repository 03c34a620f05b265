"""Inventory of a checkpoint folder, part by part: numbers, bytes and packing, from headers alone.

No weight is read and nothing is drawn. A part's parameters count packed weights unpacked and leave
scales and biases out, as the count of a loaded model does; its bytes are those of the file.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.config import ModelConfig
from ..checkpoint.tensors import StoredTensors
from ..checkpoint.vision import VISION, VisionConfig
from ..machine.dtypes import FLOATS
from .weights import check_network

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


@dataclass(frozen=True)
class Part:
    """One part of the network; packing names the ways its weights are stored, the largest first."""

    name: str
    parameters: int
    bytes: int
    packing: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """All parts of a folder, and the names of tensors that no part uses.

    vision: the sizes of its tower, None where it has none.
    """

    parts: tuple[Part, ...]
    dropped: tuple[str, ...]
    vision: VisionConfig | None

    @property
    def parameters(self) -> int:
        """Numbers in the text network: what a loaded model reports."""
        return sum(part.parameters for part in self.parts if part.name != "vision")


def take_inventory(folder: Path, config: ModelConfig, *, shape_only: bool = False) -> Inventory:
    """Sorts a folder's tensors into parts; CheckpointError where it would not load.

    shape_only: the files may end behind their headers.
    """
    tensors = check_network(folder, config, shape_only=shape_only)
    dropped, used = tensors.finish(), list(tensors.used)
    parts = []
    for part, pattern in PARTS.items():
        names = sorted(name for name in used if pattern.match(name))
        used = [name for name in used if name not in names]
        if names:
            parts.append(_part(part, names, tensors))
    return Inventory(tuple(parts), dropped, tensors.vision)


def _part(part: str, names: list[str], tensors: StoredTensors) -> Part:
    counts: Counter[str] = Counter()
    for name in names:
        if not name.endswith(SCALES):
            counts[_packing(name, tensors)] += tensors.numbers(name)
    total_bytes = sum(tensors.headers[name].num_bytes for name in names)
    packing_names = tuple(packing for packing, _ in counts.most_common())
    return Part(part, counts.total(), total_bytes, packing_names)


def _packing(name: str, tensors: StoredTensors) -> str:
    """The way in which a tensor's numbers are stored."""
    packing = tensors.packing(name.removesuffix(".weight"))
    if packing is None:
        dtype = tensors.headers[name].dtype
        return FLOATS.get(dtype, dtype)
    return packing.name
