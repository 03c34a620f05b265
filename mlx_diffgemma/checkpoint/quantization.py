"""Quantization of an MLX folder, as the `quantization` object of its config.json describes it.

Published folders have the object twice, under both KEYS. MLX names no method; what others name
counts where the rest describes MLX's own packing. Any key that is not understood is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError, brief
from .places import Section

KEYS = ("quantization", "quantization_config")

# The widths MLX packs, by mode: bits and group sizes (mlx.core.quantize, 0.32).
MODES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}
METHODS: Mapping[str, str | None] = {"mlx": None, "mlx-affine": "affine", **{m: m for m in MODES}}
"""The methods that are MLX's own, and the mode that each of them means."""
PACKING = ("bits", "group_size", "mode", "quant_method")
CONVERT_ORIGINAL = "convert the original bf16 checkpoint instead"


@dataclass(frozen=True)
class QuantizationConfig:
    """The packing of one module's weight: MLX's mode, bits and group size."""

    mode: str
    bits: int
    group_size: int

    @property
    def name(self) -> str:
        """In short, such as "4-bit affine, groups of 64"."""
        return f"{self.bits}-bit {self.mode}, groups of {self.group_size}"

    def numbers(self, words: int) -> int:
        """Count of the numbers that so many words of 32 bits hold."""
        return words * 32 // self.bits

    def words(self, numbers: int) -> int:
        """Count of the words of 32 bits that hold so many numbers of a row."""
        return numbers * self.bits // 32


@dataclass(frozen=True)
class Quantization:
    """The `quantization` object of an MLX folder: a default and per-module overrides."""

    default: QuantizationConfig
    overrides: Mapping[str, QuantizationConfig]

    def of(self, module: str) -> QuantizationConfig:
        """The packing of `module`, a path such as `model.decoder.layers.0.mlp.up_proj`."""
        return self.overrides.get(module, self.default)


def finer(packing: QuantizationConfig) -> list[int]:
    """The sizes of groups that MLX has in the mode of a packing, from its own down."""
    _, sizes = MODES[packing.mode]
    return sorted((size for size in sizes if size <= packing.group_size), reverse=True)


def read_quantization(config: Section) -> Quantization | None:
    """The quantisation that config.json describes, None for plain numbers.

    CheckpointError for one that is not MLX's, and where two places say different things.
    """
    found = [
        (section, _quantization(section))
        for above in (config, config.section("text_config"))
        for key in KEYS
        if (section := above.section(key)).values
    ]
    for section, other in found[1:]:
        _refuse_other(found[0], (section, other))
    return found[0][1] if found else None


def _quantization(section: Section) -> Quantization:
    """The default and the overrides of one object; true and false are no packing of their own."""
    default = _packing(section)
    overrides = {}
    for key, value in section.values.items():
        if isinstance(value, Mapping):
            override = section.section(key)
            for each in override.values:
                _require_known(override, each)
            overrides[key] = _packing(override)
        elif isinstance(value, bool):
            overrides[key] = default
        else:
            _require_known(section, key)
    return Quantization(default, overrides)


def _require_known(section: Section, key: str) -> None:
    """CheckpointError for a key that describes no packing of MLX."""
    if key not in PACKING:
        raise CheckpointError(
            f"{section.place(key)} is {brief(section.values[key])}, which is no part of MLX's "
            f"packing; {CONVERT_ORIGINAL}."
        )


def _packing(section: Section) -> QuantizationConfig:
    """The packing that an object describes; one that names no mode is affine."""
    values, meant = section.values, _meant_mode(section)
    mode, bits, group_size = (values.get(key) for key in ("mode", "bits", "group_size"))
    if bits is None and group_size is None:
        keys = brief(", ".join(values))
        raise CheckpointError(
            f"{section} has {keys} and neither bits nor group_size, so that it is not MLX's; "
            f"{CONVERT_ORIGINAL}."
        )
    if mode is None:
        mode = meant or "affine"
    if not isinstance(mode, str) or mode not in MODES:
        raise CheckpointError(
            f"{section.place('mode')} {brief(mode)} is unknown, expected {', '.join(MODES)}."
        )
    if meant not in (None, mode):
        raise CheckpointError(f"{section} has quant_method {meant} and mode {mode}; make them one.")
    all_bits, all_groups = MODES[mode]
    whole = type(bits) is int and type(group_size) is int
    if not whole or bits not in all_bits or group_size not in all_groups:
        raise CheckpointError(
            f"{section} is {brief(bits)} bits in groups of {brief(group_size)}; {mode} has bits "
            f"{all_bits} and groups {all_groups}."
        )
    return QuantizationConfig(mode, bits, group_size)


def _meant_mode(section: Section) -> str | None:
    """The mode that the object's method means, if it has one; CheckpointError for another's."""
    method = section.values.get("quant_method")
    if method is None:
        return None
    if not isinstance(method, str) or method not in METHODS:
        raise CheckpointError(
            f"{section.place('quant_method')} {brief(method)} is not MLX's; {CONVERT_ORIGINAL}."
        )
    return METHODS[method]


def _refuse_other(a: tuple[Section, Quantization], b: tuple[Section, Quantization]) -> None:
    """CheckpointError where two objects give one module two packings."""
    (first, one), (second, other) = a, b
    for module in (None, *one.overrides, *other.overrides):
        left, right = (q.default if module is None else q.of(module) for q in (one, other))
        if left != right:
            whom = "all modules" if module is None else brief(module, 80)
            raise CheckpointError(
                f"{first} says {left.name} for {whom}, {second.above[:-1]} {right.name}; make them "
                "one."
            )
