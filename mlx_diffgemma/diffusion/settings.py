"""The settings that a caller may choose for a generation, checked where they are made."""

import math
from dataclasses import dataclass, fields, replace

from ..checkpoint.config import SamplerDefaults
from ..errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """Sampler settings; what is None is taken from the checkpoint when generation starts.

    max_tokens: most tokens to return; seed: 64 bits, None draws a fresh one; max_denoising_steps:
    steps a canvas at most; entropy_bound: nats accepted a step; t_min, t_max: temperatures of the
    last and the first step; stability_threshold: earlier argmax canvases that must be equal to
    stop (0: entropy alone decides); confidence_threshold: mean entropy in nats below which to
    stop; stop: texts that end the answer; exact_self_conditioning: always multiply by the whole
    embedding. SettingsError names a value out of range.
    """

    max_tokens: int | None = None
    seed: int | None = None
    max_denoising_steps: int | None = None
    entropy_bound: float | None = None
    t_min: float | None = None
    t_max: float | None = None
    stability_threshold: int | None = None
    confidence_threshold: float | None = None
    stop: tuple[str, ...] = ()
    exact_self_conditioning: bool = False

    def __post_init__(self) -> None:
        self._whole("max_tokens", 1)
        self._whole("seed", 0, 2**64 - 1)
        self._whole("max_denoising_steps", 1)
        self._whole("stability_threshold", 0)
        self._number("entropy_bound", above=0.0)
        self._number("t_min", least=0.0)
        self._number("t_max", above=0.0)
        self._number("confidence_threshold", above=0.0)
        if self.t_min is not None and self.t_max is not None and self.t_min >= self.t_max:
            raise SettingsError(f"t_min {self.t_min} must be below t_max {self.t_max}.")
        if isinstance(self.stop, str):
            raise SettingsError(f"stop is the text {self.stop!r}, expected a sequence of texts.")
        object.__setattr__(self, "stop", tuple(self.stop))
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise SettingsError(f"a stop text is {text!r}, expected at least one character.")

    def resolved(self, defaults: SamplerDefaults, seed: int) -> "Resolved":
        """All sampler fields set: the caller's where given, else the checkpoint's."""
        own = {
            f.name: value
            for f in fields(SamplerDefaults)
            if (value := getattr(self, f.name)) is not None
        }
        sampler = replace(defaults, **own)
        # The checkpoint's defaults and their mix with the caller's pass the same checks.
        Settings(**{f.name: getattr(sampler, f.name) for f in fields(SamplerDefaults)})
        return Resolved(sampler, seed if self.seed is None else self.seed)

    def _whole(self, name: str, least: int, most: int | None = None) -> None:
        value = getattr(self, name)
        if value is None:
            return
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            span = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise SettingsError(f"{name} is {value!r}, expected a whole number {span}.")

    def _number(self, name: str, above: float | None = None, least: float | None = None) -> None:
        value = getattr(self, name)
        if value is None:
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not number
            or not math.isfinite(value)
            or (above is not None and value <= above)
            or (least is not None and value < least)
        ):
            span = f"above {above:g}" if above is not None else f"of at least {least:g}"
            raise SettingsError(f"{name} is {value!r}, expected a number {span}.")


@dataclass(frozen=True)
class Resolved:
    """The sampler a generation really ran with."""

    sampler: SamplerDefaults
    seed: int
