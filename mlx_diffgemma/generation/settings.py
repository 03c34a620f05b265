"""The settings that a caller may choose for a generation, checked where they are made.

Each has one range, whoever says it. A value of the checkpoint's own is checked when it is used: one
that the caller replaces does no harm. An error names the place that the value came from: the field,
which the command line shows as its option, or the checkpoint's file and the key in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from ..checkpoint.config import ModelConfig
from ..checkpoint.generation import SamplerDefaults, TokenDefaults
from ..checkpoint.places import Place
from ..errors import CheckpointError, Setting, SettingsError, brief

SAMPLER = tuple(field.name for field in fields(SamplerDefaults))
TOKENS = tuple(field.name for field in fields(TokenDefaults))
MODES = ("diffusion", "ar", "auto")


class SettingFields(TypedDict, total=False):
    """The fields of Settings, where a question takes them directly; None is not given."""

    max_tokens: int | None
    seed: int | None
    max_denoising_steps: int | None
    entropy_bound: float | None
    t_min: float | None
    t_max: float | None
    stability_threshold: int | None
    confidence_threshold: float | None
    stop: Sequence[str]
    exact_self_conditioning: bool
    mode: str
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    lookup: bool
    auto_times: Sequence[float] | None


LEAST, MOST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # normal numbers of float32, above 0
INT32 = 2**31 - 1
BELOW = " must be below "


@dataclass(frozen=True)
class Whole:
    """The whole numbers from `least` to `most`; None is as far as steps and tokens are counted."""

    least: int
    most: int | None = None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.least <= value <= (INT32 if self.most is None else self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"a whole number of at least {self.least} that int32 holds"
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True)
class Real:
    """The numbers above 0 that float32 holds, up to `most`; with `zero` 0 and all nearer to it."""

    zero: bool = False
    most: float = MOST

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (0 if self.zero else LEAST) <= value <= self.most

    def __str__(self) -> str:
        end = "that float32 holds" if self.most == MOST else f"up to {self.most:g}"
        return f"a number {'of at least' if self.zero else 'above'} 0 {end}"


RANGES: Mapping[str, Whole | Real] = {
    "max_tokens": Whole(1),
    "seed": Whole(0, 2**64 - 1),
    "max_denoising_steps": Whole(1),
    "entropy_bound": Real(),
    "t_min": Real(zero=True),
    "t_max": Real(),
    "stability_threshold": Whole(0),
    "confidence_threshold": Real(),
    "temperature": Real(zero=True),
    "top_k": Whole(0),
    "top_p": Real(most=1.0),
    "min_p": Real(zero=True, most=1.0),
}
"""The range of each setting that is a number."""


_DENOISING, _WRITING = ("diffusion", "auto"), ("ar", "auto")
OF_MODES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*SAMPLER, "exact_self_conditioning"), _DENOISING),
    **dict.fromkeys((*TOKENS, "lookup"), _WRITING),
    "auto_times": ("auto",),
}
"""The modes of each setting that not all have."""


@dataclass(frozen=True)
class Settings:
    """Sampler settings; what is None is taken from the checkpoint when generation starts.

    max_tokens: most tokens to return; seed: 64 bits, None draws a fresh one; max_denoising_steps:
    steps a canvas at most; entropy_bound: nats accepted a step; t_min, t_max: temperatures of the
    last and the first step; stability_threshold: earlier argmax canvases that must be equal to
    stop (0: entropy alone decides); confidence_threshold: mean entropy in nats below which to
    stop; stop: texts that end the answer; exact_self_conditioning: always multiply by the whole
    embedding. mode: "diffusion", "ar" for a token at a time, or "auto" for the faster of both.
    temperature, top_k, top_p, min_p: see TokenDefaults; lookup: draft tokens from what was written
    before; auto_times: milliseconds of a denoising step, of a token and, if the third is there, of
    a commit, which decide in mode auto; with an infinite one every segment is of the other mode.
    SettingsError names a value out of range, or a setting of a mode that is not asked for.
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
    mode: str = "diffusion"
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    lookup: bool = False
    auto_times: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        unset = {field.name: field.default for field in fields(self)}
        given = {name: value for name, value in vars(self).items() if value != unset[name]}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __post_init__(self) -> None:
        self._refuse_other_modes()
        if self.auto_times is not None:
            object.__setattr__(self, "auto_times", checked_times(self.auto_times))
        for name, allowed in RANGES.items():
            if (value := getattr(self, name)) is not None and value not in allowed:
                raise SettingsError(Setting(name), f" is {brief(value)}, expected {allowed}.")
        if self.t_min is not None and self.t_max is not None:
            self._refuse_crossed(self.t_min, self.t_max, {})
        if isinstance(self.stop, str):
            raise SettingsError(
                Setting("stop"), f" is the text {brief(self.stop)}, expected a sequence of texts."
            )
        object.__setattr__(self, "stop", tuple(self.stop))
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise SettingsError(
                    Setting("stop"), f" has {brief(text)}, expected texts of at least a character."
                )

    def _refuse_other_modes(self) -> None:
        """Raise for an unknown mode, and for a setting that the mode would ignore."""
        if self.mode not in MODES:
            raise SettingsError(
                Setting("mode"), f" is {brief(self.mode)}, expected one of {', '.join(MODES)}."
            )
        for name, modes in OF_MODES.items():
            value = getattr(self, name)
            if value is not None and value is not False and self.mode not in modes:
                expected = " or ".join(modes)
                got = (
                    f" is for mode {expected}, and the mode is {self.mode}; leave it out, or give "
                )
                raise SettingsError(Setting(name), got, Setting("mode"), f" {expected}.")

    @property
    def certain_mode(self) -> str:
        """The mode of every segment where it is certain beforehand, else "auto"."""
        step, token = (self.auto_times or (1.0, 1.0))[:2]
        if self.mode != "auto" or math.isfinite(step + token):
            return self.mode
        return "ar" if math.isinf(step) else "diffusion"

    def require_trained(self, config: ModelConfig, name: str) -> None:
        """SettingsError for a mode that a model, by its own card, was not trained for."""
        if self.mode != "diffusion" and "ar" not in config.modes:
            raise SettingsError(
                f"{name} was trained without the next-token loss and writes noise token by token, "
                "and ",
                Setting("mode"),
                f" is {self.mode}; use diffusion.",
            )

    def resolved(self, config: ModelConfig, seed: int) -> "Resolved":
        """All sampler fields set: the caller's where given, else the checkpoint's.

        CheckpointError for a value of the checkpoint's that would be used and is out of its range;
        those of another mode are not looked at.
        """
        sampler, tokens = config.sampler, config.token_sampler
        if self.mode in OF_MODES["entropy_bound"]:
            sampler = SamplerDefaults(**self._chosen(config, SAMPLER))
            self._refuse_crossed(sampler.t_min, sampler.t_max, config.sampler_places)
        if self.mode in OF_MODES["temperature"]:
            tokens = TokenDefaults(**self._chosen(config, TOKENS))
        return Resolved(sampler, tokens, seed if self.seed is None else self.seed)

    def _chosen(self, config: ModelConfig, names: Sequence[str]) -> dict[str, Any]:
        """The values of some settings: the caller's where given, else the checkpoint's."""
        own = {name: getattr(self, name) for name in names}
        return {n: _shipped(config, n) if value is None else value for n, value in own.items()}

    def _refuse_crossed(self, t_min: float, t_max: float, places: Mapping[str, Place]) -> None:
        """Raise unless the temperatures fall, with the place of each that is not the caller's."""
        if t_min < t_max:
            return
        low, high = self._said("t_min", t_min, places), self._said("t_max", t_max, places)
        if self.t_min is None and self.t_max is None:
            ways = (Setting("t_min"), " or ", Setting("t_max"), ".")
            raise CheckpointError(*low, BELOW, *high, "; mend it there, or give another ", *ways)
        raise SettingsError(*low, BELOW, *high, ".")

    def _said(self, name: str, value: float, places: Mapping[str, Place]) -> tuple[str, ...]:
        """A value in the parts of a message: the caller's own under its name, or its place."""
        if getattr(self, name) is not None:
            return Setting(name), f" {value}"
        if name in places:
            return (f"{places[name].key} {value} in {places[name].file}",)
        return (f"the default {name} {value}",)


def _shipped(config: ModelConfig, name: str) -> Any:
    """The checkpoint's own value of a sampler setting; CheckpointError for one out of its range."""
    value = getattr(config.token_sampler if name in TOKENS else config.sampler, name)
    if value not in RANGES[name]:
        place = config.sampler_places.get(name, f"the checkpoint's {name}")
        said = f"{place} is {brief(value)}, expected {RANGES[name]}"
        raise CheckpointError(f"{said}; mend it there, or give ", Setting(name), ".")
    return value


def checked_times(times: Any) -> tuple[float, ...]:
    """Milliseconds of a step, of a token and perhaps of a commit; SettingsError for others."""
    given = tuple(times) if isinstance(times, Sequence) and not isinstance(times, str) else ()
    above = all(_is_time(value) for value in given)
    if len(given) not in (2, 3) or not above or math.isinf(min(given[:2])):
        raise SettingsError(
            Setting("auto_times"),
            f" is {brief(times)}, expected milliseconds above 0 of a step, of a token and, if you "
            "like, of a commit, at most one of the first two infinite, as in 447,18.1.",
        )
    return tuple(map(float, given))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def merged(settings: Settings | None, given: Mapping[str, Any]) -> Settings:
    """Settings with more fields given beside them; SettingsError for a field that both give."""
    settings, defaults = settings or Settings(), Settings()
    chosen = {n: value for n, value in given.items() if value is not None or n not in FIELDS}
    for name in set(chosen) & FIELDS:
        if getattr(settings, name) != getattr(defaults, name):
            raise SettingsError(
                Setting(name), " is given in the settings and beside them; leave one of both out."
            )
    return replace(settings, **chosen)


FIELDS = frozenset(field.name for field in fields(Settings))


@dataclass(frozen=True)
class Resolved:
    """The samplers a generation really runs with, of canvases and of single tokens.

    The one that the mode does not use is the checkpoint's, unchecked.
    """

    sampler: SamplerDefaults
    tokens: TokenDefaults
    seed: int
