"""Pauses between pieces of the network's work, in which other programs have the GPU.

A GPU draws windows only between the pieces of work that it was given. While one model has it, and
each of its passes takes half a second, the whole screen lags; a pause behind every few layers lets
the screen be drawn, and costs its own length. Numbers are computed as without pauses.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

PIECE_SECONDS = 0.03  # of work before a pause: the screen is drawn 20 times a second or more
FREE_SHARE = 0.2  # of the time is left to others


@dataclass
class Pauses:
    """Work done in pieces of about `piece_seconds`, each followed by a pause.

    free_share: of the whole time is pauses; seconds: all pauses so far. The first piece is one
    layer, and later ones as many as took that long before, apart for every number of rows.
    """

    piece_seconds: float = PIECE_SECONDS
    free_share: float = FREE_SHARE
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    seconds: float = 0.0
    _waiting: int = field(default=0, init=False)  # layers since the last pause
    _layer_seconds: dict[int, float] = field(default_factory=dict, init=False)  # rows -> seconds

    def after_layer(self, x: mx.array) -> mx.array:
        """A layer's result x [B, L, H], which is waited for where a piece ends with it."""
        self._waiting += 1
        rows = x.shape[-2]
        if self._waiting * self._layer_seconds.get(rows, self.piece_seconds) >= self.piece_seconds:
            layers = self._waiting
            self._layer_seconds[rows] = self.evaluate(x) / layers
        return x

    def evaluate(self, *work: Any) -> float:
        """Compute the work, then pause; the seconds that the computing took."""
        began = self.clock()
        mx.eval(*work)
        worked = self.clock() - began
        pause = worked * self.free_share / (1 - self.free_share)
        self.sleep(pause)
        self.seconds += pause
        self._waiting = 0
        return worked
