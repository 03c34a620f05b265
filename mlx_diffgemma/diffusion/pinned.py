"""A canvas with pinned positions: all others see their tokens, and they are never denoised.

No logits are made for a pinned position. Its token is neither drawn nor renoised, takes nothing of
the entropy bound and does not count in the stop test; its soft embedding is that of a distribution
that is certain of the token. Axes: C canvas positions, F open ones, H hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..generation.frame import Frame
from ..model.text import Model
from .held import Held

OPEN = -1  # in place of a token: this position is denoised
TEXT = -1  # in place of a hole's number: this token belongs to the template


@dataclass(frozen=True, kw_only=True, repr=False)
class FillFrame(Frame):
    """A Frame of a template; what is pinned has entropy 0 and is accepted.

    pinned [C] bool. holes int32, one a token: the number of the hole it stands in, TEXT (-1) for
    the template's own and what stands behind it.
    """

    pinned: NDArray[np.bool_]
    holes: NDArray[np.int32]

    @property
    def mean_entropy(self) -> float:
        """Mean over the open positions, in nats: the confidence half of the stop test."""
        return float(self.entropies[~self.pinned].mean())

    @property
    def num_denoised(self) -> int:
        """Open positions; committed: tokens in holes."""
        free = self.holes != TEXT if self.committed else ~self.pinned
        return int(free.sum())

    @property
    def num_accepted(self) -> int:
        """Accepted open positions."""
        return int((self.accepted & ~self.pinned).sum())


@dataclass(frozen=True)
class PinnedPositions:
    """Positions of a canvas for Denoiser.settle, at least one of them open.

    tokens [C]: the pinned ones, OPEN elsewhere; holes [C]: the hole each position stands in; held:
    the form that the open positions are held to, if any.
    """

    tokens: Sequence[int]
    holes: Sequence[int]
    held: Held | None = None
    rows: mx.array = field(init=False)
    pinned: NDArray[np.bool_] = field(init=False)
    standing: mx.array = field(init=False)  # the tokens [C] int32, some valid id where free
    given: NDArray[np.int32] = field(init=False)  # the ids that are pinned, ascending

    def __post_init__(self) -> None:
        tokens = np.array(self.tokens, np.int32)
        pinned = tokens != OPEN
        object.__setattr__(self, "pinned", pinned)
        object.__setattr__(self, "rows", mx.array(np.flatnonzero(~pinned).astype(np.int32)))
        object.__setattr__(self, "given", np.unique(tokens[pinned]))
        object.__setattr__(self, "standing", mx.array(np.where(pinned, tokens, 0)))

    def within(self, span: slice) -> "PinnedPositions":
        """The positions of a part of the canvas, perhaps none of them open."""
        return PinnedPositions(self.tokens[span], self.holes[span])

    def before(self, position: int) -> int:
        """The number of open positions before one of the canvas."""
        return int((~self.pinned[:position]).sum())

    def of(self, values: mx.array) -> mx.array:
        """The values [F, ...] of the open positions, out of [C, ...]."""
        return values[self.rows]

    def noise(self, draw: Callable[[int], mx.array], vocab: int) -> mx.array:
        """Tokens [F] int32, uniform over the ids that are not pinned anywhere in this canvas.

        A network takes a canvas that is half right for one that has little noise left, and believes
        the noise that could be right. Noise that repeats nothing of its surroundings rarely could.
        """
        if len(self.given) >= vocab:  # every id there is
            return self.of(draw(vocab).reshape(-1))
        ids = np.array(draw(vocab - len(self.given)).reshape(-1))
        gaps = self.given - np.arange(len(self.given))  # ids below each given one that are allowed
        return self.of(mx.array((ids + np.searchsorted(gaps, ids, side="right")).astype(np.int32)))

    def canvas(self, tokens: mx.array) -> mx.array:
        """The canvas [C] int32: tokens [F] at the open positions, the pinned ones at theirs."""
        whole = mx.array(self.standing)
        whole[self.rows] = tokens.astype(mx.int32)
        return whole

    def soft(self, model: Model, soft: mx.array) -> mx.array:
        """Soft embeddings [1, C, H]: those given [1, F, H], and certainty of the pinned tokens."""
        whole = model.certain_embedding(self.standing[None]).astype(soft.dtype)
        whole[:, self.rows] = soft
        return whole

    def frame(self, frame: Frame) -> FillFrame:
        """The frame of the canvas, out of one of the open positions."""
        free = ~self.pinned
        tokens = np.array(self.tokens, np.int32)
        entropies = np.zeros(tokens.shape, np.float32)
        accepted = np.ones(tokens.shape, np.bool_)
        for whole, part in (
            (tokens, frame.tokens),
            (entropies, frame.entropies),
            (accepted, frame.accepted),
        ):
            whole[free] = part
        given = {f.name: getattr(frame, f.name) for f in fields(Frame)}
        given |= {"tokens": tokens, "entropies": entropies, "accepted": accepted}
        holes = np.array(self.holes, np.int32)
        return FillFrame(**given, pinned=self.pinned, holes=holes)
