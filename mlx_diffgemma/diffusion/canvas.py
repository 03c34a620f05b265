"""One canvas, step after step until it is settled, as Frames.

The positions that are denoised are a part of their own, Positions: all of them, or those that a
template leaves open (pinned.py). Axes: C canvas positions, F of them denoised, H hidden size.
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Protocol, TypeVar

import mlx.core as mx
import numpy as np

from ..generation.frame import Frame
from ..generation.noise import Noise
from ..generation.prompt import Prompt, encode
from ..generation.settings import Resolved
from ..model.cache import Prefix
from ..model.text import Model, Progress, not_finite
from .sampler import temperature
from .step import State, Step, StepInputs, advance
from .stop import StopRule

AnyFrame = TypeVar("AnyFrame", bound=Frame, covariant=True)


class Positions(Protocol[AnyFrame]):
    """The positions of a canvas that are denoised, and the tokens that stand at the others."""

    @property
    def rows(self) -> mx.array | None:
        """The denoised positions [F] int32, ascending; None for all."""
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


class AllPositions:
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
    """The model, sampler, noise and prompt of one call; exact: never gather the soft embedding."""

    model: Model
    resolved: Resolved
    noise: Noise
    exact: bool
    prompt: Prompt

    def next_canvas(
        self,
        number: int,
        behind: Sequence[int],
        prefix: Prefix,
        positions: Positions[AnyFrame],
        *,
        start: State | None = None,
        progress: Progress | None = None,
    ) -> Generator[AnyFrame, None, AnyFrame]:
        """Encode what `prefix` lacks, then settle canvas `number` behind it.

        behind: the tokens between what has been encoded, prompt included, and the canvas. progress:
        told of the prompt's positions. For the rest see `settle`.
        """
        began = time.perf_counter()
        encode(self.model, self.prompt, behind, prefix, progress)
        if number == 0:
            prefix.mark()
        encode_seconds = time.perf_counter() - began
        last = yield from self.settle(
            number, prefix, positions, encode_seconds=encode_seconds, start=start
        )
        mx.clear_cache()
        return last

    def settle(
        self,
        number: int,
        prefix: Prefix,
        positions: Positions[AnyFrame],
        *,
        encode_seconds: float,
        start: State | None = None,
    ) -> Generator[AnyFrame, None, AnyFrame]:
        """The steps of canvas `number` until it is settled or they run out; returns the last.

        positions: those that are denoised; start: a warm start, else noise.
        """
        rule = StopRule.of(self.resolved.sampler)
        state = start or self._noise_canvas(number, positions)
        unchanged = 0  # steps since the argmax canvas last changed
        for step in count():
            began = time.perf_counter()
            given = self._inputs(number, step, positions)
            done = advance(state, given, self.model, prefix)
            frame = positions.frame(_frame(number, step, done, given, began, encode_seconds))
            if not math.isfinite(done.mean_entropy):
                where = f"canvas {number}, step {step}: the distributions"
                raise not_finite(self.model, where)
            yield frame
            unchanged = unchanged + 1 if done.unchanged else 0
            if rule.ends(step + 1, unchanged, done.mean_entropy):
                break
            soft = positions.soft(self.model, done.soft.completed(self.model))
            state = State(positions.canvas(done.next_canvas), soft, done.best)
            del done  # its logits
        return frame

    def _noise_canvas(self, number: int, positions: Positions[AnyFrame]) -> State:
        """The state before the first step of a canvas: noise."""
        draw = partial(self.noise.canvas, number, self.model.config.canvas_length)
        return State(positions.canvas(positions.noise(draw, self.model.config.text.vocab_size)))

    def _inputs(self, number: int, step: int, positions: Positions[AnyFrame]) -> StepInputs:
        """Temperature and noise of a step of canvas `number`."""
        sampler, C = self.resolved.sampler, self.model.config.canvas_length
        renoise = partial(self.noise.renoise, number, step, C)
        return StepInputs(
            temperature(step, sampler.max_denoising_steps, sampler.t_min, sampler.t_max),
            sampler.entropy_bound,
            positions.of(self.noise.uniforms(number, step, C)),
            positions.noise(renoise, self.model.config.text.vocab_size),
            positions.rows,
            self.exact,
        )


def _frame(
    canvas: int, step: int, done: Step, given: StepInputs, began: float, encode_seconds: float
) -> Frame:
    """The frame of the denoised positions after a step that began at a time of perf_counter."""
    return Frame(
        canvas=canvas,
        step=step,
        tokens=np.array(done.best),
        entropies=np.array(done.entropy),
        accepted=np.array(done.accepted),
        temperature=given.temperature,
        seconds=time.perf_counter() - began,
        encode_seconds=encode_seconds,
        second_tier_rows=done.soft.second_tier_rows,
        dense_rows=done.soft.dense_rows,
    )
