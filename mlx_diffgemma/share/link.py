"""A link between Macs measured, and what it adds to a denoising step of the 26B model."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..machine.device import in_host
from .part import CUTS, Cut
from .predicted import Step, one_mac_ms, predicted
from .share import Share

SIZES = (4, 16_384, 262_144, 1_441_792, 4_194_304, 16_777_216)  # the fourth: hidden states
SECONDS = 0.5  # for each size
WARM, MOST = 3, 400  # calls: those left out, and those timed at most
BATCH = 8  # calls between two looks at the clock, which all ranks share
SLOW_MS, SLOW_RATE = 1.0, 1.0  # of 4 bytes, as Wi-Fi has it; GB/s of the largest


@dataclass(frozen=True)
class Sum:
    """Sums of so many bytes over all ranks: the median time, and the rate a rank sends at."""

    bytes: int
    median_us: float
    gb_per_s: float


@dataclass(frozen=True)
class LinkTest:
    """What a link was found to be; equal_bits: every rank got the same sums, and the right ones.

    steps: arithmetic of a step by each cut.
    """

    size: int
    equal_bits: bool
    sums: tuple[Sum, ...]
    one_mac_ms: float | None
    steps: Mapping[Cut, Step]

    @property
    def warnings(self) -> list[str]:
        """What makes this link a bad one for an answer together."""
        return list(_warnings(self))


def measured(share: Share, tflops: float | None, seconds: float = SECONDS) -> LinkTest:
    """The test, run on all ranks alike; tflops: this Mac's chip, None where it is not known."""
    equal = equal_bits(share)
    sums = tuple(_sum(share, size, seconds) for size in SIZES)
    one = None if tflops is None else one_mac_ms(tflops)

    def taken(sent: float) -> float:
        return _seconds(share.size, sums, sent)

    steps = {cut: predicted(cut, share.size, tflops, taken) for cut in CUTS}
    return LinkTest(share.size, equal, sums, one, steps)


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


def _seconds(macs: int, sums: Sequence[Sum], sent: float) -> float:
    """Seconds for `sent` bytes, between the measured sizes on a straight line."""
    known = [_sent(macs, each.bytes) for each in sums]
    return float(np.interp(sent, known, [each.median_us / 1e6 for each in sums]))


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
