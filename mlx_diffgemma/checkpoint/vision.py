"""The vision part of a checkpoint's config: the tower's sizes, and what an image is in a prompt.

Facts: transformers 5.24, `models/gemma4/configuration_gemma4.py` (Gemma4VisionConfig), and the
published config.json and processor_config.json.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, Setting, SettingsError, brief
from ..images.pixels import DEFAULT_SOFT_TOKENS, MOST_SOFT_TOKENS, PATCH, POOL
from .files import read_optional
from .places import Section

VISION = re.compile(r"model\.encoder\.(vision_tower|embed_vision)\.")  # names of its tensors
# Soft tokens of an image that Gemma 4 was trained on.
BUDGETS = (70, 140, DEFAULT_SOFT_TOKENS, 560, MOST_SOFT_TOKENS)
IMAGE_KEY = "image_token_id"
ACTIVATION = "gelu_pytorch_tanh"
ROPE_TYPES = ("axial", "default")  # two names of one thing
MOST_COUNT = (1 << 31) - 1  # MLX counts positions and sizes in 32 bits
MOST_LAYERS = 1024  # loops begin before the folder's tensors are known; what it lacks is then named
MOST_REAL = 1e30  # far from the ends of a float32, in which these numbers are used
SIGHTLESS = (
    "this checkpoint has no vision tower and sees no images; leave them out, or take one that has, "
    "such as google/diffusiongemma-26B-A4B-it."
)
NO_IMAGE_IDS = (
    f"has no {IMAGE_KEY}, expected the id that stands for an image in a prompt; copy it, "
    "boi_token_id and eoi_token_id from the original checkpoint, or leave images out."
)  # behind the file's name
COUNTS = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "head_dim"),
    "position_embedding_size",
)


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the vision tower; names as in config.json.

    soft_tokens: the most that an image takes unless the user says otherwise; budgets: what he may
    say.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int
    position_embedding_size: int
    rms_norm_eps: float
    rope_theta: float
    standardize: bool
    soft_tokens: int

    @property
    def budgets(self) -> tuple[int, ...]:
        """The soft tokens that an image may be given: Gemma 4's, and the checkpoint's own."""
        return tuple(sorted({*BUDGETS, self.soft_tokens}))

    def budget(self, wanted: int | None) -> int:
        """The soft tokens of an image, `wanted` or the checkpoint's own; SettingsError for others
        than are offered.
        """
        if wanted is None:
            return self.soft_tokens
        if isinstance(wanted, bool) or wanted not in self.budgets:
            *others, last = map(str, self.budgets)
            expected = f"{', '.join(others)} or {last}"
            raise SettingsError(
                Setting("image_tokens"), f" is {brief(wanted)}, expected {expected}."
            )
        return wanted


def require_vision(vision: VisionConfig | None) -> VisionConfig:
    """The VisionConfig; CheckpointError where there is none."""
    if vision is None:
        raise CheckpointError(SIGHTLESS)
    return vision


@dataclass(frozen=True)
class ImageIds:
    """The token ids of an image: in front of it, of each of its soft tokens, and behind it."""

    begin: int
    soft: int
    end: int


def read_image_ids(config: Section, vocab_size: int) -> ImageIds | None:
    """The ids that config.json names; None where it names none, and no image can be asked about."""
    if config.values.get(IMAGE_KEY) is None:
        return None
    ids = [_id(config, key, vocab_size) for key in ("boi_token_id", IMAGE_KEY, "eoi_token_id")]
    if len(set(ids)) < len(ids):
        raise CheckpointError(
            f"{config.place(IMAGE_KEY)}: the ids of an image are {ids}, expected three of them."
        )
    return ImageIds(*ids)


def _id(config: Section, key: str, vocab_size: int) -> int:
    value: Any = config.values.get(key)
    within = type(value) is int and 0 <= value < vocab_size
    _require(config, key, within, f"a token id from 0 to {vocab_size - 1}")
    return int(value)


def read_vision(config: Section) -> VisionConfig | None:
    """The VisionConfig of config.json and processor_config.json; None for a text-only checkpoint.

    CheckpointError for sizes that are none, and for what the reference has and no published
    checkpoint uses.
    """
    section = config.section("vision_config")
    if not section.values:
        return None
    _refuse_unsupported(section)
    heads = _count(section, "num_attention_heads")
    same = section.values.get("num_key_value_heads") in (None, heads)
    _require(section, "num_key_value_heads", same, f"{heads}, one for each attention head")
    return VisionConfig(
        **{key: _count(section, key) for key in COUNTS},
        num_hidden_layers=_count(section, "num_hidden_layers", MOST_LAYERS),
        rms_norm_eps=_real(section, "rms_norm_eps", 1e-6),
        rope_theta=_real(section.section("rope_parameters"), "rope_theta", 100.0),
        standardize=_flag(section, "standardize"),
        soft_tokens=_soft_tokens(config.file.parent),
    )


def _soft_tokens(folder: Path) -> int:
    """The budget that processor_config.json names; Gemma 4's where there is no such file."""
    file = folder / "processor_config.json"
    processor = Section(file, read_optional(file)).section("image_processor")
    if processor.values.get("max_soft_tokens") is None:
        return DEFAULT_SOFT_TOKENS
    return _count(processor, "max_soft_tokens", MOST_SOFT_TOKENS)


def _refuse_unsupported(section: Section) -> None:
    expected: dict[str, object] = {
        "patch_size": PATCH,
        "pooling_kernel_size": POOL,
        "hidden_activation": ACTIVATION,
        "attention_bias": False,
        "use_clipped_linears": False,
    }
    for key, value in expected.items():
        got = section.values.get(key)
        _require(section, key, got is None or got == value, repr(value))
    rope = section.section("rope_parameters")
    known = rope.values.get("rope_type", ROPE_TYPES[0]) in ROPE_TYPES
    _require(rope, "rope_type", known, " or ".join(map(repr, ROPE_TYPES)))
    head_dim = _count(section, "head_dim")
    _require(section, "head_dim", head_dim % 4 == 0, "a multiple of 4")


def _count(section: Section, key: str, most: int = MOST_COUNT) -> int:
    value: Any = section.values.get(key)
    whole = type(value) is int and 0 < value <= most
    _require(section, key, whole, f"a whole number from 1 to {most:,}")
    return int(value)


def _real(section: Section, key: str, default: float) -> float:
    value: Any = section.values.get(key, default)
    _require(
        section, key, type(value) in (int, float) and 0 < value < MOST_REAL, "a positive number"
    )
    return float(value)


def _flag(section: Section, key: str) -> bool:
    value: Any = section.values.get(key)
    _require(section, key, value is None or type(value) is bool, "true or false")
    return bool(value)


def _require(section: Section, key: str, ok: bool, expected: str) -> None:
    if not ok:
        got = "missing" if key not in section.values else brief(section.values[key])
        raise CheckpointError(f"{section.place(key)} is {got}, expected {expected}.")
