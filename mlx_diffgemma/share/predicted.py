"""Arithmetic of a step or a prompt of the 26B model that several Macs share: nothing is measured.

Computing takes 60% of a chip's peak; what the link takes is found from the planned messages.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .part import Cut
from .traffic import PUBLISHED, encoding, longest, step

HOST_MS = 10.0  # of a step that no second Mac takes over
ATTENTION, DENSE_MLP, HEAD, EXPERTS = 756, 274, 378, 731  # GFLOP
GATHERED, PRODUCT = 15, 378  # GFLOP of soft embeddings; Macs that divide the vocabulary multiply
HEADS, HEAD_GROUP, MLP_GROUPS = 16, 2, 33  # what tensors are cut at
PEAK_SHARE = 0.60
# Rows -> experts' rows of whole tiles of 16 by rows needed: the kernels leave out eights without
# rows, so that times err on the long side. Macs -> experts' rows of the busiest by the mean. Some
# experts are far more popular than others (scripts/bench/tile_waste.py).
WASTE = ((32, 3.48), (64, 2.50), (128, 1.85), (256, 1.47))
BUSIEST = ((1, 1.0), (2, 1.16), (3, 1.31), (4, 1.45), (6, 1.70), (8, 1.94))

PROMPT = 2048  # positions of a piece, with 1,000 in front of it
POSITION, POSITION_EXPERTS = 4.62, 2.86  # GFLOP of one: 842 / 256 with scores of 1.33, 731 / 256
PROMPT_WASTE = ((512, 1.25), (1024, 1.13), (2048, 1.06))  # as WASTE


@dataclass(frozen=True)
class Step:
    """Arithmetic of a step, or a prompt: what the link adds, the whole, and one Mac's time by it.

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


def predicted_prompt(macs: int, tflops: float, seconds: Callable[[float], float]) -> Step:
    """A prompt's piece by rows; seconds: for a message that sends bytes."""
    messages = encoding(PUBLISHED, "rows", macs, PROMPT)
    link = 1e3 * sum(seconds(message.sent(macs)) for message in messages)
    whole = prompt_ms(macs, tflops) + link
    return Step(link, whole, prompt_ms(1, tflops) / whole)


def prompt_ms(macs: int, tflops: float) -> float:
    """Milliseconds that each of so many Macs computes for a prompt's piece."""
    rows = longest(PROMPT, macs)
    gflop = rows * (POSITION + POSITION_EXPERTS * _of(PROMPT_WASTE, rows))
    return gflop / (PEAK_SHARE * tflops)


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
        return (dense + (HEAD + PRODUCT) / macs + experts) / (PEAK_SHARE * tflops)
    dense = ATTENTION + DENSE_MLP + HEAD + GATHERED
    return (dense + experts) * part / (PEAK_SHARE * tflops)


def _heads(macs: int) -> float:
    """The fullest Mac's share of the heads: whole groups of those that share keys and values."""
    groups = HEADS // HEAD_GROUP
    return longest(groups, macs) / groups if macs <= groups else longest(HEADS, macs) / HEADS


def _of(known: tuple[tuple[int, float], ...], number: int) -> float:
    """A plan's figure between those that it has, on a straight line over doublings."""
    at = [math.log2(each) for each, _ in known]
    return float(np.interp(math.log2(max(number, 1)), at, [figure for _, figure in known]))
