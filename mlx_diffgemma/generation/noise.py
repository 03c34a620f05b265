"""Counter-based noise: the same seed gives the same numbers on every machine and for every shape.

Philox4x32-10 (Salmon et al., SC 2011) keyed by the 64-bit seed, at counter (position, step,
canvas, stream); of a token in mode ar at (its index in the answer, 0, 0, 3). Integers only, so CPU
and GPU cannot differ; a few hundred words a step are made with numpy on the host.
"""

import secrets
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import Setting, SettingsError, brief
from ..model.given import described
from .settings import RANGES

STREAM_CANVAS, STREAM_RENOISE, STREAM_DRAW, STREAM_TOKENS = 0, 1, 2, 3

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_ROUNDS = 10


def fresh_seed() -> int:
    """A seed nobody chose, short enough to type again."""
    return secrets.randbits(32)


class Noise(Protocol):
    """The source of the loop's randomness; steps and canvases count from 0."""

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        """[length] int32, uniform over the vocabulary: a canvas to begin with."""
        ...

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        """[length] int32, uniform over the vocabulary: for positions that were not accepted."""
        ...

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        """[length, 2] float32 in (0, 1): the categorical draw."""
        ...


class CounterNoise:
    """The product's noise, from a 64-bit seed."""

    def __init__(self, seed: int) -> None:
        seed = int(seed) if isinstance(seed, np.integer) else seed
        if seed not in RANGES["seed"]:
            raise SettingsError(Setting("seed"), f" is {brief(seed)}, expected {RANGES['seed']}.")
        self.seed = seed

    def __repr__(self) -> str:
        return f"CounterNoise({self.seed})"

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        return self._ids(length, 0, canvas, STREAM_CANVAS, vocab)

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        return self._ids(length, step, canvas, STREAM_RENOISE, vocab)

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        return _uniforms(philox(self.seed, length, step, canvas, STREAM_DRAW))

    def tokens(self, first: int, length: int) -> mx.array:
        """[length, 2] float32 in (0, 1) for the tokens first, first + 1, ... of an answer.

        The same however many are made at a time, and whichever mode wrote the tokens before.
        """
        return _uniforms(philox(self.seed, length, 0, 0, STREAM_TOKENS, first))

    def _ids(self, length: int, step: int, canvas: int, stream: int, vocab: int) -> mx.array:
        words = philox(self.seed, length, step, canvas, stream)[:, 0].astype(np.uint64)
        return mx.array(((words * np.uint64(vocab)) >> np.uint64(32)).astype(np.int32))


def _uniforms(words: NDArray[np.uint32]) -> mx.array:
    """Words [L, 4] -> [L, 2]: ((word >> 9) + 1/2) * 2^-23, exact in float32, never 0 or 1."""
    return mx.array(((words[:, :2] >> np.uint32(9)) + np.float32(0.5)) * np.float32(2.0**-23))


@dataclass(frozen=True)
class CheckedNoise:
    """Somebody's Noise, checked where it enters; dtypes and shapes only, which waits for nothing.

    SettingsError for another form than the protocol's. Ids may be of any width.
    """

    noise: Noise

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        return _checked_ids(self.noise.canvas(canvas, length, vocab), "canvas", length)

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        return _checked_ids(self.noise.renoise(canvas, step, length, vocab), "renoise", length)

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        given = self.noise.uniforms(canvas, step, length)
        array = _array(given)
        if array is None or array.dtype != mx.float32 or array.shape != (length, 2):
            _refuse("uniforms", given, f"float32 [{length}, 2] between 0 and 1")
        return array


def checked_noise(given: Noise | None, seed: int) -> Noise:
    """The noise given, checked as it comes, or the product's own from `seed`."""
    return CounterNoise(seed) if given is None else CheckedNoise(given)


def _checked_ids(given: object, name: str, length: int) -> mx.array:
    """Ids [length] or [1, length] of any integer dtype -> [length] int32."""
    array = _array(given)
    if (
        array is None
        or not mx.issubdtype(array.dtype, mx.integer)
        or array.shape not in ((length,), (1, length))
    ):
        _refuse(name, given, f"int32 [{length}]")
    return array.reshape(-1).astype(mx.int32)


def _array(given: object) -> mx.array | None:
    """An array of numpy's or MLX's as one of MLX; None for anything else."""
    if isinstance(given, np.ndarray):
        return mx.array(given)
    return given if isinstance(given, mx.array) else None


def _refuse(name: str, given: object, expected: str) -> NoReturn:
    raise SettingsError(
        f"the noise's {name} are {described(given)}, expected {expected}; see dg.Noise."
    )


def philox(
    seed: int, length: int, step: int, canvas: int, stream: int, first: int = 0
) -> NDArray[np.uint32]:
    """Four 32-bit words for each of the positions first .. first + length - 1: [length, 4]."""
    return philox_at(seed, np.arange(first, first + length), step, canvas, stream)


def philox_at(
    seed: int, positions: ArrayLike, steps: ArrayLike, canvases: ArrayLike, streams: ArrayLike
) -> NDArray[np.uint32]:
    """Four 32-bit words at each of the counters, numbers or arrays that broadcast: [.., 4]."""
    given = [np.asarray(word, dtype=np.uint64) for word in (positions, steps, canvases, streams)]
    words: list[Any] = [*np.broadcast_arrays(*given)]
    low, high = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(_ROUNDS):
        one = words[0] * np.uint64(_MULTIPLIERS[0])
        other = words[2] * np.uint64(_MULTIPLIERS[1])
        words = [
            (other >> np.uint64(32)) ^ words[1] ^ np.uint64(low),
            other & _MASK,
            (one >> np.uint64(32)) ^ words[3] ^ np.uint64(high),
            one & _MASK,
        ]
        low, high = (low + _WEYL[0]) & 0xFFFFFFFF, (high + _WEYL[1]) & 0xFFFFFFFF
    return np.stack(words, axis=-1).astype(np.uint32)
