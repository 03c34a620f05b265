"""The settings of a decision: how often, how long and in which layout a model is asked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import Setting, SettingsError, brief

Layout = Literal["joint", "rows", "own"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
AUTO: Literal["auto"] = "auto"

RANGES: Mapping[str, tuple[int, int]] = {
    "samples": (1, 32),
    "auto_max": (1, 32),
    "steps": (1, 8),
    "think": (0, 4096),
    "seed": (0, 2**64 - 1),
    "orders": (1, 8),
}
"""Settings that are whole numbers, with their least and greatest values."""

SAMPLE_STRIDE, CHUNK_STRIDE = 7919, 104729


def wrong(name: str, value: object) -> str | None:
    """What is wrong with the value of a setting, behind its name; None where nothing is."""
    if name == "layout":
        return None if value in LAYOUTS else f"is {brief(value)}, expected joint, rows or own."
    if name == "label_mass":
        return None if isinstance(value, bool) else f"is {brief(value)}, expected true or false."
    if name == "auto_threshold":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and value >= 0:  # type: ignore[arg-type,operator]
            return None
        return f"is {brief(value)}, expected a number of nats, 0 or more."
    if name == "samples" and value == AUTO:
        return None
    least, most = RANGES[name]
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return None
    other = ", or auto" if name == "samples" else ""
    return f"is {brief(value)}, expected a whole number from {least} to {most}{other}."


@dataclass(frozen=True)
class Options:
    """The settings of a decision.

    samples: draws of noise that are averaged, "auto" for one, and up to auto_max where an answer's
    entropy is above auto_threshold nats; steps: denoising steps of a read; think: most tokens of a
    thought before it; orders: orders of a choice's options that are averaged; label_mass: also tell
    the share of the vocabulary's probability that the labels hold.
    """

    samples: int | Literal["auto"] = 4
    auto_max: int = 4
    auto_threshold: float = 0.1
    steps: int = 1
    think: int = 0
    seed: int = 42
    layout: Layout = "joint"
    orders: int = 1
    label_mass: bool = False

    def __post_init__(self) -> None:
        """SettingsError for a value out of its range."""
        for name, value in vars(self).items():
            if said := wrong(name, value):
                raise SettingsError(Setting(name), f" {said}")

    def seeds(self, first: int, count: int, chunk: int) -> tuple[int, ...]:
        """The seeds of `count` samples from number `first` on."""
        start = self.seed + CHUNK_STRIDE * chunk
        return tuple((start + SAMPLE_STRIDE * k) % 2**64 for k in range(first, first + count))
