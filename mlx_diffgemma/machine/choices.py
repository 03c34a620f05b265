"""Choices for a machine: ways to compute the same numbers, and how many at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ..errors import SettingsError
from .dtypes import FLOAT_NAMES, FloatName

Preference = Literal["auto", "on", "off"]
"""Metal kernels of a family: where faster in their own trial; where right; nowhere."""
DenseWeights = Literal["packed", "16-bit"]


@dataclass(frozen=True)
class Choices:
    """The way a network runs on one machine; every default is the engine's own behaviour.

    prefill_chunk: prompt positions encoded at a time; head_chunk_logits: logits that exist at a
    time; None for the engine's. dense_weights: attention, dense MLP and embedding as the checkpoint
    packs them, or unpacked once at load. dtype: of activations, None for the checkpoint's.
    """

    prefill_chunk: int | None = None
    head_chunk_logits: int | None = None
    dense_weights: DenseWeights = "packed"
    experts_kernels: Preference = "auto"
    denoise_kernels: Preference = "auto"
    soft_gather_kernels: Preference = "auto"
    dtype: FloatName | None = None

    def __post_init__(self) -> None:
        for name in ("prefill_chunk", "head_chunk_logits"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingsError(f"{name} is {value!r}, expected a whole number from 1.")
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                expected = ", ".join(str(value) for value in allowed)
                raise SettingsError(f"{name} is {getattr(self, name)!r}, expected {expected}.")

    @property
    def unpacks(self) -> bool:
        """True where dense weights are unpacked at load."""
        return self.dense_weights == "16-bit"

    @staticmethod
    def from_json(value: Any) -> "Choices":
        """The choices in a file; SettingsError names what is wrong with another value."""
        names = {field.name for field in fields(Choices)}
        if not isinstance(value, Mapping):
            raise SettingsError(f"choices are {value!r:.40}, expected an object.")
        if unknown := sorted(set(value) - names):
            raise SettingsError(f"choices have {unknown[0]!r:.40}, which is none; tune again.")
        if missing := sorted(names - set(value)):
            raise SettingsError(f"choices lack {missing[0]}; tune again.")
        return Choices(**value)


KERNELS = ("experts_kernels", "denoise_kernels", "soft_gather_kernels")
"""The choices about Metal kernels, one a family."""

ALLOWED: Mapping[str, tuple[str | None, ...]] = {
    "dense_weights": get_args(DenseWeights),
    **dict.fromkeys(KERNELS, get_args(Preference)),
    "dtype": (*FLOAT_NAMES, None),
}
"""A choice of few values -> those values."""
