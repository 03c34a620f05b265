"""Levels of certainty, and the colours that show them where the background is known.

Each colour has at least 4.5:1 (WCAG) on its ground.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Certainty:
    """Tokens that have less entropy than `below` nats, and no lower level.

    label: in a legend; on_light, on_dark: their colour on LIGHT and on DARK.
    """

    below: float
    label: str
    on_light: str
    on_dark: str


# Mean entropy below 0.005 nats ends denoising; a uniform draw from the whole vocabulary has 12.5.
CERTAINTIES = (
    Certainty(0.05, "<0.05", "#00784f", "#2fb585"),
    Certainty(0.3, "<0.3", "#4d7300", "#8fb83a"),
    Certainty(1.0, "<1", "#736a00", "#c9b53a"),
    Certainty(3.0, "<3", "#b34d00", "#ff8f45"),
    Certainty(float("inf"), "more", "#cf0048", "#ff7090"),
)
EDGES = np.array([level.below for level in CERTAINTIES[:-1]], np.float32)


@dataclass(frozen=True)
class Ground:
    """A background, and on it the colours of text without a certainty."""

    back: str
    text: str
    faint: str


LIGHT = Ground("#ffffff", "#1f2328", "#636363")
DARK = Ground("#1e1e1e", "#d6d6d6", "#9a9a9a")
