"""Findings of the rows of a step, of which several Macs compute some each, made alike on all.

Axes: F denoised rows of a canvas, H hidden size.
"""

from typing import NamedTuple

import mlx.core as mx

from ..share.part import Rows
from .soft import Part


class Seen(NamedTuple):
    """Argmax and draw [F] int32 and entropy [F] float32 nats of rows, and the parts of their soft
    embeddings, which are of the rows that are computed here."""

    best: mx.array
    entropy: mx.array
    drawn: mx.array
    parts: tuple[Part, ...]

    @property
    def arrays(self) -> list[mx.array]:
        """All that is computed before the host decides."""
        kept = [array for part in self.parts for array in part.arrays]
        return [self.best, self.entropy, self.drawn, *kept]


def nothing_seen(hidden: mx.array) -> Seen:
    """The findings of no row, hidden [0, H]: every position here is pinned.

    They wait for the hidden states all the same: other Macs want the keys and values on the way.
    """
    none: mx.array = mx.depends([mx.zeros((0,), mx.int32)], [hidden])[0]
    soft = mx.zeros(hidden.shape, hidden.dtype)
    return Seen(none, none.astype(mx.float32), none, (Part(soft),))


def agreed(seen: Seen, own: Rows) -> Seen:
    """Findings of the rows `own` -> those of all rows; 12 bytes a row travel."""
    if own.share.alone:
        return seen
    columns = [seen.best.astype(mx.int32), seen.entropy.view(mx.int32), seen.drawn.astype(mx.int32)]
    together = own.agreed(mx.stack(columns, axis=1), "outcome")
    best, entropy, drawn = (column[:, 0] for column in mx.split(together, 3, axis=1))
    return Seen(best, entropy.view(mx.float32), drawn, seen.parts)
