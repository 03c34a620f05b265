"""A link between Macs measured, and what it adds to a denoising step of the 26B model."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..machine.device import in_host
from .share import Share, cuts

SIZES = (4, 16_384, 262_144, 1_441_792, 4_194_304, 16_777_216)  # the fourth: hidden states
SECONDS = 0.5  # for each size
WARM, MOST = 3, 400  # calls: those left out, and those timed at most
BATCH = 8  # calls between two looks at the clock, which all ranks share
SLOW_MS, SLOW_RATE = 1.0, 1.0  # of 4 bytes, as Wi-Fi has it; GB/s of the largest

CANVAS, HIDDEN, ITEM = 256, 2816, 2  # of the 26B model, in 16 bits
SLIDING, FULL = (25, 8192), (5, 2048)  # layers, and bytes of a row's keys and values to gather
OUTCOME = 12  # bytes of a row's outcome
HOST_MS = 10.0  # of a step that no second Mac takes over: a plan's number
DENSE_GFLOP, EXPERTS_GFLOP = 1423, 731
PEAK_SHARE = 0.60
WASTE = ((64, 4.38), (128, 2.96), (256, 2.07))  # rows -> expert rows computed by rows needed


@dataclass(frozen=True)
class Sum:
    """Sums of so many bytes over all ranks: the median time, and the rate a rank sends at."""

    bytes: int
    median_us: float
    gb_per_s: float


@dataclass(frozen=True)
class Step:
    """Arithmetic of a step: what the link adds, the whole, and one Mac's time by it.

    step_ms, speed_up: None where the chip is not in the table.
    """

    link_ms: float
    step_ms: float | None
    speed_up: float | None


@dataclass(frozen=True)
class LinkTest:
    """What a link was found to be; equal_bits: every rank got the same sums, and the right ones."""

    size: int
    equal_bits: bool
    sums: tuple[Sum, ...]
    one_mac_ms: float | None
    rows: Step
    layers: Step

    @property
    def warnings(self) -> list[str]:
        """What makes this link a bad one for an answer together."""
        return list(_warnings(self))


def measured(share: Share, tflops: float | None, seconds: float = SECONDS) -> LinkTest:
    """The test, run on all ranks alike; tflops: this Mac's chip, None where it is not known."""
    equal = equal_bits(share)
    sums = tuple(_sum(share, size, seconds) for size in SIZES)
    one = None if tflops is None else _computing(CANVAS, CANVAS, tflops) + HOST_MS
    return LinkTest(
        share.size,
        equal,
        sums,
        one,
        _step(share.size, sums, tflops, one, by_rows=True),
        _step(share.size, sums, tflops, one, by_rows=False),
    )


def equal_bits(share: Share) -> bool:
    """True where whole numbers add up as they should, and noise to the same bits everywhere."""
    total = share.size * (share.size + 1) / 2
    whole = share.sum(mx.full((4097,), share.rank + 1, mx.float32), "check")
    noise = np.random.default_rng(share.rank).standard_normal(4097).astype(np.float32)
    bits = in_host(share.gather(share.sum(mx.array(noise), "check").view(mx.uint32), "check"))
    return bool((in_host(whole) == total).all()) and bool((bits == bits[0]).all())


def _sum(share: Share, size: int, seconds: float) -> Sum:
    """Sums of `size` bytes between two operations, as in a step: a GPU has to wait for the link."""
    x = mx.zeros((max(1, size // 4),), mx.float32)
    times: list[float] = []
    began = time.perf_counter()
    for call in range(WARM + MOST):
        start = time.perf_counter()
        mx.eval(share.sum(x + 0, "link") + 0)
        times.append(time.perf_counter() - start)
        if call % BATCH == BATCH - 1:  # every rank has to stop at the same call
            share.alive()
            spent = share.gather(mx.array([time.perf_counter() - began]), "check")
            if in_host(spent).max() > seconds:
                break
    median = float(np.median(times[WARM:]))
    return Sum(size, median * 1e6, _sent(share.size, size) / median / 1e9)


def _sent(macs: int, size: int) -> float:
    """Bytes that a rank sends in a sum."""
    return 2 * (macs - 1) / macs * size


def _step(
    macs: int, sums: Sequence[Sum], tflops: float | None, one: float | None, *, by_rows: bool
) -> Step:
    messages = list(_messages(macs, by_rows=by_rows))
    link = sum(count * _seconds(macs, sums, sent) for count, sent in messages) * 1e3
    if tflops is None or one is None:
        return Step(link, None, None)
    rows = max(stop - start for start, stop in cuts(CANVAS, macs)) if by_rows else CANVAS
    whole = _computing(rows, CANVAS, tflops) + HOST_MS + link
    return Step(link, whole, one / whole)


def _messages(macs: int, *, by_rows: bool) -> Iterator[tuple[int, float]]:
    """How many collectives a step has, and the bytes that a rank sends in each."""
    if not by_rows:
        yield macs, _sent(macs, CANVAS * HIDDEN * ITEM)
        return
    for count, of_row in (SLIDING, FULL, (1, OUTCOME)):
        yield count, (macs - 1) * CANVAS / macs * of_row


def _seconds(macs: int, sums: Sequence[Sum], sent: float) -> float:
    """Seconds for `sent` bytes, between the measured sizes on a straight line."""
    known = [_sent(macs, each.bytes) for each in sums]
    return float(np.interp(sent, known, [each.median_us / 1e6 for each in sums]))


def _computing(rows: int, canvas: int, tflops: float) -> float:
    """Milliseconds that a Mac computes for its rows of a canvas: a plan's numbers."""
    known = [math.log2(known) for known, _ in WASTE]
    waste = float(np.interp(math.log2(max(rows, 1)), known, [waste for _, waste in WASTE]))
    gflop = (DENSE_GFLOP + EXPERTS_GFLOP * waste) * rows / canvas
    return gflop / (PEAK_SHARE * tflops)


def _warnings(test: LinkTest) -> Iterator[str]:
    if not test.equal_bits:
        yield "the Macs got different sums: no answer over this link can be trusted"
    if (least := test.sums[0].median_us / 1e3) > SLOW_MS:
        yield (
            f"{least:.1f} ms for 4 bytes, expected {SLOW_MS:g} at most: as over Wi-Fi, or on busy "
            "Macs; look at the hosts' addresses"
        )
    if (rate := test.sums[-1].gb_per_s) < SLOW_RATE:
        yield f"{rate:.2f} GB/s, expected {SLOW_RATE:g} or more: a cable of Thunderbolt has it"
