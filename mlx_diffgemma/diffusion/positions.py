"""The positions of a canvas that are denoised: all, or those that a template leaves open.

Axes: C canvas positions, F of them denoised, H hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import mlx.core as mx

from ..generation.frame import Frame
from ..model.text import Model
from .held import Held

AnyFrame = TypeVar("AnyFrame", bound=Frame, covariant=True)


class Positions(Protocol[AnyFrame]):
    """The positions of a canvas that are denoised, and the tokens that stand at the others."""

    @property
    def rows(self) -> mx.array | None:
        """The denoised positions [F] int32, ascending; None for all."""
        ...

    @property
    def held(self) -> Held | None:
        """The form that the denoised positions are held to, if any."""
        ...

    def within(self, span: slice) -> "Positions[AnyFrame]":
        """The positions of a part of the canvas, as a canvas of their own."""
        ...

    def before(self, position: int) -> int:
        """The number of denoised positions before one of the canvas."""
        ...

    def of(self, values: mx.array) -> mx.array:
        """The values [F, ...] of the denoised positions, out of [C, ...]."""
        ...

    def noise(self, draw: Callable[[int], mx.array], vocab: int) -> mx.array:
        """Tokens [F] int32 from `draw`, which gives [C] ids, uniform below the number it gets."""
        ...

    def canvas(self, tokens: mx.array) -> mx.array:
        """The whole canvas [C] int32, out of tokens [F] of the denoised positions."""
        ...

    def soft(self, model: Model, soft: mx.array) -> mx.array:
        """Soft embeddings [1, C, H] of the whole canvas, out of those [1, F, H] denoised."""
        ...

    def frame(self, frame: Frame) -> AnyFrame:
        """The frame of the whole canvas, out of one of the denoised positions."""
        ...


@dataclass(frozen=True)
class AllPositions:
    """Every position is denoised; held: to what form, if any."""

    held: Held | None = None
    rows = None

    def within(self, span: slice) -> "AllPositions":
        return self

    def before(self, position: int) -> int:
        return position

    def of(self, values: mx.array) -> mx.array:
        return values

    def noise(self, draw: Callable[[int], mx.array], vocab: int) -> mx.array:
        return draw(vocab).reshape(-1)

    def canvas(self, tokens: mx.array) -> mx.array:
        return tokens

    def soft(self, model: Model, soft: mx.array) -> mx.array:
        return soft

    def frame(self, frame: Frame) -> Frame:
        return frame
