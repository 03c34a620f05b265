"""Choices for a machine: ways to compute the same numbers, and how many at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from ..errors import SettingsError
from .dtypes import FLOAT_NAMES, FloatName

Preference = Literal["auto", "on", "off"]
"""Metal kernels of a family: where faster in their own trial; where right; nowhere."""
DenseWeights = Literal["packed", "16-bit"]
SoftProduct = Literal["packed", "slices", "16-bit"]


@dataclass(frozen=True)
class ModeTimes:
    """Milliseconds that were measured for one model on one machine, by which mode auto decides.

    step_ms: a denoising step; token_ms: a token of mode ar; commit_ms: the causal pass over a whole
    canvas, None where it was not measured; rows_ms: causal passes over so many rows.
    """

    step_ms: float
    token_ms: float
    commit_ms: float | None = None
    rows_ms: tuple[tuple[int, float], ...] = ()

    @staticmethod
    def from_json(value: Any) -> "ModeTimes":
        """The times in a file; SettingsError where they are none."""
        try:
            rows = tuple((int(rows), float(ms)) for rows, ms in value.get("rows_ms", ()))
            commit = value.get("commit_ms")
            times = ModeTimes(
                float(value["step_ms"]),
                float(value["token_ms"]),
                None if commit is None else float(commit),
                rows,
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise SettingsError(
                f"times are {value!r:.40}, expected milliseconds; tune again."
            ) from None
        return times


@dataclass(frozen=True)
class Choices:
    """The way a network runs on one machine; every default is the engine's own behaviour.

    prefill_chunk: prompt positions encoded at a time; head_chunk_logits: logits that exist at a
    time; None for the engine's. dense_weights: attention, dense MLP and embedding as the checkpoint
    packs them, or unpacked once at load. soft_product: distributions that take the product with the
    whole embedding multiply it packed, slices of it that are unpacked on the way, or a copy of it
    unpacked once at load. dtype: of activations, None for the checkpoint's. times:
    of both modes, None where they were not measured.
    """

    prefill_chunk: int | None = None
    head_chunk_logits: int | None = None
    dense_weights: DenseWeights = "packed"
    soft_product: SoftProduct = "packed"
    experts_kernels: Preference = "auto"
    denoise_kernels: Preference = "auto"
    soft_gather_kernels: Preference = "auto"
    dtype: FloatName | None = None
    times: ModeTimes | None = None

    def __post_init__(self) -> None:
        for name in ("prefill_chunk", "head_chunk_logits"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingsError(f"{name} is {value!r}, expected a whole number from 1.")
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                expected = ", ".join(str(value) for value in allowed)
                raise SettingsError(f"{name} is {getattr(self, name)!r}, expected {expected}.")
        if self.unpacks and self.soft_product != "packed":
            raise SettingsError(
                f"soft_product is {self.soft_product!r}, expected 'packed' where dense_weights is "
                "'16-bit', which unpacks the embedding too; tune again."
            )

    @property
    def alter(self) -> bool:
        """True where the network runs otherwise than by the engine's own behaviour."""
        return replace(self, times=None) != Choices()

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
        if missing := sorted(names - {"times"} - set(value)):
            raise SettingsError(f"choices lack {missing[0]}; tune again.")
        times = value.get("times")
        return Choices(**{**value, "times": None if times is None else ModeTimes.from_json(times)})


ON_EMBEDDING = ("dense_weights", "soft_product")
"""The choices about how the embedding lies in memory; one at most is not the engine's own."""

KERNELS = ("experts_kernels", "denoise_kernels", "soft_gather_kernels")
"""The choices about Metal kernels; that of the experts is for router, plan and products alike."""

ALLOWED: Mapping[str, tuple[str | None, ...]] = {
    "dense_weights": get_args(DenseWeights),
    "soft_product": get_args(SoftProduct),
    **dict.fromkeys(KERNELS, get_args(Preference)),
    "dtype": (*FLOAT_NAMES, None),
}
"""A choice of few values -> those values."""
