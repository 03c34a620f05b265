"""Recipes: how many bits each part of the network gets, and how config.json says so.

A published recipe such as 4bit packs experts, self-conditioning and the vision projection as its
name says, and keeps embedding, attention, dense MLP and router at 8-bit affine in groups of 64.
Source: mlx-vlm 0.7.10, `models/diffusion_gemma` (quant_predicate) and `quantize_model`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..checkpoint.quantization import MODES, QuantizationConfig
from ..checkpoint.tensors import StoredTensors
from ..errors import Setting, SettingsError, brief
from .layout import VISION_PROJECTION, VISION_TOWER

PRESETS: Mapping[str, QuantizationConfig | None] = {
    "4bit": QuantizationConfig("affine", 4, 64),
    "5bit": QuantizationConfig("affine", 5, 64),
    "6bit": QuantizationConfig("affine", 6, 64),
    "8bit": QuantizationConfig("affine", 8, 64),
    "mxfp4": QuantizationConfig("mxfp4", 4, 32),
    "mxfp8": QuantizationConfig("mxfp8", 8, 32),
    "nvfp4": QuantizationConfig("nvfp4", 4, 16),
    "none": None,
}
KEPT_BITS, KEPT_GROUP = 8, 64


@dataclass(frozen=True)
class RecipeOptions:
    """A user's choices; None takes the recipe's own."""

    quantize: str = "4bit"
    group_size: int | None = None
    embed_bits: int | None = None
    attention_bits: int | None = None
    mlp_bits: int | None = None
    experts_bits: int | None = None
    embed_vision: bool = True


@dataclass(frozen=True)
class Recipe:
    """The packing of each part of the network; `default` None packs nothing."""

    name: str
    default: QuantizationConfig | None
    embedding: QuantizationConfig | None
    attention: QuantizationConfig | None
    mlp: QuantizationConfig | None
    experts: QuantizationConfig | None
    kept: QuantizationConfig | None  # the router
    embed_vision: bool

    def packing(self, name: str, shape: tuple[int, ...]) -> QuantizationConfig | None:
        """The packing meant for a tensor, whatever its width; None for one that stays plain."""
        module = name.removesuffix(".weight")
        if len(shape) < 2 or module == name or module.startswith(VISION_TOWER):
            return None
        if module == VISION_PROJECTION:
            return self.default if self.embed_vision else None
        if module.endswith(".embed_tokens"):
            return self.embedding
        if ".self_attn." in module:
            return self.attention
        if ".experts." in module:
            return self.experts
        if ".mlp." in module:
            return self.mlp
        return self.kept if is_kept(module) else self.default

    @property
    def told(self) -> dict[str, Any]:
        """The recipe for a manifest: the packing of each part by its name, None where plain."""
        told = {each.name: getattr(self, each.name) for each in fields(Recipe)}
        return {
            name: vars(value) if isinstance(value, QuantizationConfig) else value
            for name, value in told.items()
        }


@dataclass(frozen=True)
class StoredRecipe(Recipe):
    """The packing that a folder has: each module keeps its own. Parts stand for one module each."""

    of: Callable[[str], QuantizationConfig | None]

    def packing(self, name: str, shape: tuple[int, ...]) -> QuantizationConfig | None:
        """The packing that the folder has of a tensor; None for plain numbers."""
        module = name.removesuffix(".weight")
        return None if module == name else self.of(module)


def stored_recipe(source: StoredTensors) -> StoredRecipe:
    """The recipe under which a folder stays as it is packed."""
    of, layer = source.packing, "model.decoder.layers.0"
    return StoredRecipe(
        name="keep",
        default=source.config.quantization.default if source.config.quantization else None,
        embedding=of("model.decoder.embed_tokens"),
        attention=of(f"{layer}.self_attn.q_proj"),
        mlp=of(f"{layer}.mlp.gate_proj"),
        experts=of(f"{layer}.experts.down_proj"),
        kept=of(f"{layer}.router.proj"),
        embed_vision=of(VISION_PROJECTION) is not None,
        of=of,
    )


def is_kept(module: str) -> bool:
    """Test that config.json always names this module, as mlx-vlm writes it."""
    kept = (".embed_tokens", ".mlp.gate_proj", ".mlp.up_proj", ".mlp.down_proj", ".router.proj")
    return module.endswith(kept) or ".self_attn." in module


def make_recipe(options: RecipeOptions) -> Recipe:
    """The Recipe of a user's choices; SettingsError for bits or groups that a mode lacks."""
    if options.quantize not in PRESETS:
        raise SettingsError(
            Setting("quantize"),
            f" is {brief(options.quantize)}, expected one of {', '.join(PRESETS)}.",
        )
    preset = PRESETS[options.quantize]
    if preset is None:
        for option in ("group_size", "embed_bits", "attention_bits", "mlp_bits", "experts_bits"):
            if (value := getattr(options, option)) is not None:
                said = (f" is {value}, but ", Setting("quantize"), " is none: nothing is packed.")
                raise SettingsError(Setting(option), *said)
        return Recipe(options.quantize, None, None, None, None, None, None, False)
    group_size = preset.group_size if options.group_size is None else options.group_size
    default = _checked("group_size", QuantizationConfig(preset.mode, preset.bits, group_size))
    experts_bits = default.bits if options.experts_bits is None else options.experts_bits
    experts = QuantizationConfig(default.mode, experts_bits, group_size)
    return Recipe(
        name=options.quantize,
        default=default,
        embedding=_kept("embed_bits", options.embed_bits),
        attention=_kept("attention_bits", options.attention_bits),
        mlp=_kept("mlp_bits", options.mlp_bits),
        experts=_checked("experts_bits", experts),
        kept=_kept("embed_bits", None),
        embed_vision=options.embed_vision,
    )


def quantization_object(
    recipe: Recipe, packed: Mapping[str, QuantizationConfig]
) -> dict[str, Any] | None:
    """The `quantization` of config.json for the modules that are packed: default, then overrides.

    A kept module is always named, another only where it differs; affine overrides name no mode.
    """
    default = recipe.default
    if default is None or not packed:
        return None
    overrides = {
        module: _entry(packing)
        for module, packing in packed.items()
        if is_kept(module) or packing != default
    }
    return {
        "group_size": default.group_size,
        "bits": default.bits,
        "mode": default.mode,
        **overrides,
    }


def _entry(packing: QuantizationConfig) -> dict[str, Any]:
    entry: dict[str, Any] = {"group_size": packing.group_size, "bits": packing.bits}
    return entry if packing.mode == "affine" else entry | {"mode": packing.mode}


def _kept(option: str, bits: int | None) -> QuantizationConfig:
    bits = KEPT_BITS if bits is None else bits
    return _checked(option, QuantizationConfig("affine", bits, KEPT_GROUP))


def _checked(option: str, packing: QuantizationConfig) -> QuantizationConfig:
    """`packing` if MLX has it, else SettingsError for `option`, which chose its bits or groups."""
    all_bits, all_groups = MODES[packing.mode]
    got, known = packing.group_size, all_groups
    if option != "group_size":
        got, known = packing.bits, all_bits
    if got not in known:
        expected = " or ".join(map(str, known))
        raise SettingsError(Setting(option), f" is {got}, but {packing.mode} has {expected}.")
    return packing
