"""The roofline: the least time that a chip needs for some work, and the time it should take.

The bound is the larger of two times: the arithmetic at the chip's peak rate, and reading the bytes
at the full rate of its memory. No chip reaches either; `estimated_times` is arithmetic for a model
that nobody has measured on the machine at hand.
"""

from dataclasses import dataclass

from ..checkpoint.config import ModelConfig
from ..machine.chips import Chip
from ..machine.choices import ModeTimes
from .bits import BitsOf
from .work import Work, step_work, token_work, total

PEAK_SHARE = 0.60  # of a chip's arithmetic: MLX multiplies bfloat16 at about 65% of it on M4
BANDWIDTH_SHARE = 0.85  # of its memory's rate
LAUNCH_MS = 0.0023
"""Milliseconds that a kernel launch adds to a token.

With BANDWIDTH_SHARE it fits what mlx-lm reaches with Gemma 4 26B-A4B on M4 Pro (46.9 tokens/s in 8
bits) and M4 Max (112 to 118 in 4 bits), as others published it. M1 to M3 and M5 seem to pay more.
"""
LAYER_LAUNCHES = 28.7
"""Launches of a token for each layer: those of `Model.step` on a GPU, 861 at 30 layers.

A count of the graph's nodes with the published packing, views left out, not a measurement.
"""
ROWS = (1, 2, 4, 8, 16)  # of the causal passes that mode ar may take


@dataclass(frozen=True)
class Bound:
    """The least milliseconds of a chip's arithmetic, and of its memory."""

    compute_ms: float
    memory_ms: float

    @property
    def ms(self) -> float:
        """The larger of the two: the chip cannot be faster."""
        return max(self.compute_ms, self.memory_ms)


def bound(work: Work, chip: Chip) -> Bound:
    """The least time of `work` on `chip`."""
    return Bound(
        work.flops / (chip.tflops * 1e12) * 1e3,
        work.bytes / (chip.gigabytes_per_second * 1e9) * 1e3,
    )


def estimated_ms(work: Work, chip: Chip) -> float:
    """The time of `work` at the shares of peak and bandwidth that programs reach."""
    least = bound(work, chip)
    return max(least.compute_ms / PEAK_SHARE, least.memory_ms / BANDWIDTH_SHARE)


def token_launches(config: ModelConfig) -> int:
    """Kernel launches of a token in mode ar: a count by layers, not a measurement."""
    return round(LAYER_LAUNCHES * len(config.text.layers))


def estimated_times(
    config: ModelConfig, bits: BitsOf, chip: Chip, context: int, *, item_bytes: int = 2
) -> ModeTimes:
    """Times of both modes behind `context` positions on a chip, where none are measured.

    A denoising step in mid-canvas that uses all experts and whose soft embeddings all take the
    whole product; a token, and passes over ROWS rows, with the launches of a token each. The commit
    is left to its reader.
    """
    launches_ms = LAUNCH_MS * token_launches(config)

    def row_ms(rows: int) -> float:
        work = total(token_work(config, context, bits, rows=rows, item_bytes=item_bytes))
        return estimated_ms(work, chip) + launches_ms

    step = total(step_work(config, context, bits, item_bytes=item_bytes))
    times = tuple((rows, row_ms(rows)) for rows in ROWS)
    return ModeTimes(estimated_ms(step, chip), row_ms(1), None, times)
