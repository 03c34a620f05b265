"""Arithmetic of a denoising step of the 26B model that several Macs share: none of it is measured.

Computing takes 60% of a chip's peak; what the link takes is found from the planned messages.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .part import Cut
from .traffic import PUBLISHED, longest, step

HOST_MS = 10.0  # of a step that no second Mac takes over
ATTENTION, DENSE_MLP, ENDS, EXPERTS = 756, 274, 393, 731  # GFLOP; ends: head and soft embedding
HEADS, HEAD_GROUP, MLP_GROUPS = 16, 2, 33  # what tensors are cut at
PEAK_SHARE = 0.60
WASTE = ((64, 4.38), (128, 2.96), (256, 2.07))  # rows -> expert rows computed by rows needed
# Macs -> experts' rows of the busiest by the mean, where a text uses 89 of 128 experts
BUSIEST = ((1, 1.0), (2, 1.17), (3, 1.32), (4, 1.46), (6, 1.69), (8, 1.96))


@dataclass(frozen=True)
class Step:
    """Arithmetic of a step: what the link adds, the whole, and one Mac's time by it.

    step_ms, speed_up: None where the chip is not in the table.
    """

    link_ms: float
    step_ms: float | None
    speed_up: float | None


def predicted(cut: Cut, macs: int, tflops: float | None, seconds: Callable[[float], float]) -> Step:
    """The step of so many Macs; tflops: of each chip; seconds: for a message that sends bytes."""
    messages = [message.sent(macs) for message in step(PUBLISHED, cut, macs)]
    link = 1e3 * sum(seconds(sent) for sent in messages)
    if tflops is None:
        return Step(link, None, None)
    whole = _computing(cut, macs, tflops) + HOST_MS + link
    return Step(link, whole, one_mac_ms(tflops) / whole)


def one_mac_ms(tflops: float) -> float:
    """Milliseconds of a step on one Mac."""
    return _computing("rows", 1, tflops) + HOST_MS


def _computing(cut: Cut, macs: int, tflops: float) -> float:
    """Milliseconds that the fullest Mac computes, or by layers all of them in turn."""
    rows = longest(PUBLISHED.canvas, macs) if cut == "rows" else PUBLISHED.canvas
    part, experts = rows / PUBLISHED.canvas, EXPERTS * _of(WASTE, rows)
    if cut == "tensor":
        experts *= _of(BUSIEST, macs) / macs
        dense = ATTENTION * _heads(macs) + DENSE_MLP * longest(MLP_GROUPS, macs) / MLP_GROUPS
        return (dense + ENDS / macs + experts) / (PEAK_SHARE * tflops)
    return (ATTENTION + DENSE_MLP + ENDS + experts) * part / (PEAK_SHARE * tflops)


def _heads(macs: int) -> float:
    """The fullest Mac's share of the heads: whole groups of those that share keys and values."""
    groups = HEADS // HEAD_GROUP
    return longest(groups, macs) / groups if macs <= groups else longest(HEADS, macs) / HEADS


def _of(known: tuple[tuple[int, float], ...], number: int) -> float:
    """A plan's figure between those that it has, on a straight line over doublings."""
    at = [math.log2(each) for each, _ in known]
    return float(np.interp(math.log2(max(number, 1)), at, [figure for _, figure in known]))
