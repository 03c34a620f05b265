"""Who reads the logits of a step, and the graph that is built of what is read.

Axes: F denoised positions.
"""

from dataclasses import dataclass

import mlx.core as mx

from .soft import Part


@dataclass(frozen=True)
class Readers:
    """The readers of a step's logits: kernels, or MLX's operations with their float32 copies.

    samples, gathers: kernels draw, and gather soft embeddings; gathering: somebody gathers.
    """

    samples: bool
    gathers: bool
    gathering: bool

    @property
    def take_the_canvas(self) -> bool:
        """True where no reader needs a float32 copy, so that a canvas's logits are made at once.

        All raw logits are kept for the soft embeddings in any case.
        """
        return self.samples and (self.gathers or not self.gathering)


@dataclass(frozen=True)
class Built:
    """The graph of a step behind its decoder, evaluated or not.

    summary [2] or [2 + F] float32: mean entropy in nats, 1 where nothing changed, and the rows'
    tiers where they were gathered; shown [3, F] int32: best, the bits of the entropy,
    and accepted.
    """

    best: mx.array
    next_canvas: mx.array
    summary: mx.array
    shown: mx.array
    parts: tuple[Part, ...]

    @property
    def arrays(self) -> list[mx.array]:
        """All that the next step and the frame are made from."""
        kept = [array for part in self.parts for array in part.arrays]
        return [self.best, self.next_canvas, self.summary, self.shown, *kept]
