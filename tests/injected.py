"""Noise that a test chooses: the same draws for the loop here and for the reference's.

Axes: N canvases, S steps, C canvas positions.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class InjectedNoise:
    """starts [N, C] and renoised [N, S, C] ids, drawn [N, S, C, 2] uniforms in (0, 1)."""

    starts: NDArray[np.int32]
    renoised: NDArray[np.int32]
    drawn: NDArray[np.float32]

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        return mx.array(self._checked(self.starts[canvas], length, vocab))

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        return mx.array(self._checked(self.renoised[canvas, step], length, vocab))

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        assert self.drawn.shape[2] == length
        return mx.array(self.drawn[canvas, step])

    @staticmethod
    def _checked(ids: NDArray[np.int32], length: int, vocab: int) -> NDArray[np.int32]:
        assert ids.shape == (length,)
        assert ids.max() < vocab
        return ids


def injected_noise(seed: int, canvases: int, steps: int, length: int, vocab: int) -> InjectedNoise:
    """Uniform noise from PCG64's own words, the same with every version of numpy."""
    words = np.random.PCG64(seed)

    def ids(*shape: int) -> NDArray[np.int32]:
        raw = words.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return ((raw * np.uint64(vocab)) >> np.uint64(32)).astype(np.int32).reshape(shape)

    starts, renoised = ids(canvases, length), ids(canvases, steps, length)
    raw = words.random_raw(canvases * steps * length * 2) >> np.uint64(41)
    drawn = (raw.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)
    return InjectedNoise(starts, renoised, drawn.reshape(canvases, steps, length, 2))
