"""Quantization of an MLX folder, as the `quantization` object of its config.json describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, shown

# The widths MLX packs, by mode: bits and group sizes (mlx.core.quantize, 0.32).
MODES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}


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


def read_quantization(raw: Any) -> Quantization | None:
    """The quantisation of an MLX folder; an override that names no mode is affine."""
    if not raw:
        return None
    if not isinstance(raw, Mapping) or "quant_method" in raw:
        method = raw.get("quant_method") if isinstance(raw, Mapping) else raw
        raise CheckpointError(
            f"config.json: quantization method {method!r} is not MLX's; convert the original "
            "bf16 checkpoint instead."
        )
    default = _packing(raw, "default")
    overrides = {
        module: _packing(entry, module) for module, entry in raw.items() if isinstance(entry, dict)
    }
    return Quantization(default, overrides)


def _packing(entry: Mapping[str, Any], module: str) -> QuantizationConfig:
    mode = entry.get("mode", "affine")
    if not isinstance(mode, str) or mode not in MODES:
        known = ", ".join(MODES)
        raise CheckpointError(
            f"config.json: quantization mode {mode!r} ({module}) is unknown, expected {known}."
        )
    bits, group_size = entry.get("bits"), entry.get("group_size")
    whole = type(bits) is int and type(group_size) is int  # 8.0 in (4, 8) is true
    if not whole or bits not in MODES[mode][0] or group_size not in MODES[mode][1]:
        got = f"{shown(repr(bits))} bits in groups of {shown(repr(group_size))}"
        raise CheckpointError(
            f"config.json: quantization of {shown(module)} is {got}; {mode} has bits "
            f"{MODES[mode][0]} and groups {MODES[mode][1]}."
        )
    return QuantizationConfig(mode, bits, group_size)
