"""One canvas, step after step until it is settled, as Frames.

Which of its positions are denoised is a part of its own, Places: all of them, or those that a
template leaves open (pins.py). Axes: C canvas positions, F of them denoised, H hidden size.
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..errors import NumericsError
from ..model.cache import Prefix
from ..model.text import Model, Progress
from .noise import Noise
from .schedule import temperature
from .settings import Resolved
from .step import denoising_step


@dataclass(frozen=True)
class Frame:
    """A canvas after one denoising step, or, committed, what the canvas has come to.

    canvas, step: numbers from 0; a committed frame carries its last step's. tokens [C] int32: the
    argmax canvas, or the committed tokens, cut after the stop id and at max_tokens. entropies [C]
    float32 nats; accepted [C] bool: kept for the next step; temperature of the step; seconds the
    step took; encode_seconds the encoder took before this canvas; dense_rows: positions whose
    next soft embedding takes the whole product. finish_reason ("stop" or "length") is set on the
    last frame of all. text is filled where a tokenizer is known.
    """

    canvas: int
    step: int
    tokens: NDArray[np.int32]
    entropies: NDArray[np.float32]
    accepted: NDArray[np.bool_]
    committed: bool = False
    temperature: float = 0.0
    seconds: float = 0.0
    encode_seconds: float = 0.0
    dense_rows: int = 0
    finish_reason: str | None = None
    text: str = ""

    @property
    def mean_entropy(self) -> float:
        """Mean over the canvas, in nats: the confidence half of the stop test."""
        return float(self.entropies.mean())

    @property
    def num_denoised(self) -> int:
        """Positions that are denoised; committed: tokens that were."""
        return len(self.tokens)

    @property
    def num_accepted(self) -> int:
        """Accepted positions, of `num_denoised`."""
        return int(self.accepted.sum())


@dataclass
class State:
    """What one denoising step hands to the next."""

    tokens: mx.array  # [C] int32
    soft: mx.array | None  # [1, C, H]


AnyFrame = TypeVar("AnyFrame", bound=Frame, covariant=True)


class Places(Protocol[AnyFrame]):
    """Which positions of a canvas are denoised, and what stands at the others."""

    @property
    def rows(self) -> mx.array | None:
        """The denoised positions [F] int32, ascending; None for all."""
        ...

    def of(self, values: mx.array) -> mx.array:
        """[C, ...] -> [F, ...]: the values of the denoised positions."""
        ...

    def noise(self, draw: Callable[[int], mx.array], vocab: int) -> mx.array:
        """Tokens [F] int32 from `draw`, which gives [C] ids, uniform below the number it gets."""
        ...

    def canvas(self, tokens: mx.array) -> mx.array:
        """Tokens [F] of the denoised positions -> the whole canvas [C] int32."""
        ...

    def soft(self, model: Model, soft: mx.array) -> mx.array:
        """Soft embeddings [1, F, H] -> those of the whole canvas [1, C, H]."""
        ...

    def frame(self, frame: Frame) -> AnyFrame:
        """A frame of the denoised positions -> that of the whole canvas."""
        ...


class Everywhere:
    """Every position is denoised."""

    rows = None

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


@dataclass(frozen=True)
class Denoiser:
    """One call's model, sampler and noise; exact: never gather the soft embedding."""

    model: Model
    resolved: Resolved
    noise: Noise
    exact: bool

    def next_canvas(
        self,
        number: int,
        pending: Sequence[int],
        prefix: Prefix,
        at: Places[AnyFrame],
        *,
        start: State | None = None,
        progress: Progress | None = None,
    ) -> Generator[AnyFrame, None, AnyFrame]:
        """Encodes the `pending` tokens into `prefix`, then settles canvas `number` behind it.

        progress: told of encoded positions before the first canvas. For the rest see `settle`.
        """
        began = time.perf_counter()
        if pending:
            self.model.encode(pending, prefix, progress=progress if number == 0 else None)
        if number == 0:
            prefix.mark()
        encode_seconds = time.perf_counter() - began
        frame = yield from self.settle(
            number, prefix, at, encode_seconds=encode_seconds, start=start
        )
        mx.clear_cache()
        return frame

    def settle(
        self,
        number: int,
        prefix: Prefix,
        at: Places[AnyFrame],
        *,
        encode_seconds: float,
        start: State | None = None,
    ) -> Generator[AnyFrame, None, AnyFrame]:
        """The steps of canvas `number` until it is settled or they run out; returns the last.

        at: the positions that are denoised; start: a warm start, else noise.
        """
        sampler, vocab = self.resolved.sampler, self.model.config.text.vocab_size
        C = self.model.config.canvas_length
        first = at.noise(partial(self.noise.canvas, number, C), vocab)
        state = start or State(at.canvas(first), None)
        previous: mx.array | None = None
        step = streak = 0  # streak: steps since the argmax canvas last changed
        while True:
            began = time.perf_counter()
            t = temperature(step, sampler.max_denoising_steps, sampler.t_min, sampler.t_max)
            done = denoising_step(
                self.model,
                state.tokens,
                prefix,
                state.soft,
                rows=at.rows,
                temperature=t,
                entropy_bound=sampler.entropy_bound,
                uniforms=at.of(self.noise.uniforms(number, step, C)),
                renoise=at.noise(partial(self.noise.renoise, number, step, C), vocab),
                previous=previous,
                exact=self.exact,
            )
            seen = Frame(
                canvas=number,
                step=step,
                tokens=np.array(done.best),
                entropies=np.array(done.entropy),
                accepted=np.array(done.accepted),
                temperature=t,
                seconds=time.perf_counter() - began,
                encode_seconds=encode_seconds,
                dense_rows=done.dense_rows(),
            )
            if not math.isfinite(done.mean_entropy):
                raise NumericsError(self._non_finite(number, step))
            frame = at.frame(seen)
            yield frame
            step += 1
            streak = streak + 1 if done.unchanged else 0
            stable = streak >= sampler.stability_threshold
            certain = done.mean_entropy < sampler.confidence_threshold
            if step == sampler.max_denoising_steps or (stable and certain):
                return frame
            state = State(at.canvas(done.next_canvas), at.soft(self.model, done.soft(self.model)))
            previous = done.best
            del done  # its logits

    def _non_finite(self, canvas: int, step: int) -> str:
        culprit = self.model.find_non_finite()
        where = f"tensor {culprit} holds NaN or Inf" if culprit else "all weights are finite"
        return (
            f"canvas {canvas}, step {step}: the distributions are not finite; {where}; "
            "download or convert the checkpoint again, or try another --dtype."
        )
