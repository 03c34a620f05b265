"""One canvas, step after step until it is settled, as Frames.

The positions that are denoised are a part of their own, Positions: all of them, or those that a
template leaves open (pinned.py).
"""

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx

from ..generation.agreement import require_same_answer
from ..generation.frame import Frame
from ..generation.noise import Noise
from ..generation.prompt import Prompt, encode
from ..generation.settings import Resolved
from ..model.finite import not_finite
from ..model.prefix import Prefix
from ..model.text import Model, Progress
from ..share.guard import lost_macs, require_equal_work
from .pipeline import Pipeline
from .positions import AnyFrame, Positions
from .sampler import temperature
from .state import Outcome, State, StepInputs
from .stop import StopRule


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
        share = self.model.part.share
        with lost_macs(share):
            began = time.perf_counter()
            if number == 0:
                require_same_answer(share, self.prompt, prefix, self.resolved)
            encode(self.model, self.prompt, behind, prefix, progress)
            if number == 0:
                prefix.mark()
            encode_seconds = time.perf_counter() - began
            last = yield from self.settle(
                number, prefix, positions, encode_seconds=encode_seconds, start=start
            )
            require_equal_work(share, last.tokens.tolist())
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
        """The steps of canvas `number` until it is settled or they run out; returns the last, with
        the tokens that the canvas ends with.

        positions: those that are denoised; start: a warm start, else noise.
        """
        rule = StopRule.of(self.resolved.sampler)
        steps = Pipeline(self.model, prefix, positions, partial(self._inputs, number, positions))
        unchanged, lent = 0, 0.0  # steps since the argmax canvas last changed; the caller's seconds
        try:
            steps.begin(start or self._noise_canvas(number, positions))
            while True:
                is_last = steps.number + 1 == rule.max_steps
                seen = steps.read(is_last=is_last)
                self.model.part.share.alive()
                self._require_finite(number, steps.number, seen)
                frame = self._frame(number, steps, seen, lent, encode_seconds)
                unchanged = unchanged + 1 if seen.unchanged else 0
                settled = rule.settles(unchanged, seen.mean_entropy)
                ends = settled or is_last
                ahead = steps.ahead and not ends
                if ahead:
                    steps.go_on()
                handed_out = time.perf_counter()
                yield positions.frame(frame)
                if ends:
                    last = replace(frame, tokens=steps.tokens(), settled=settled)
                    return positions.frame(last)
                lent = time.perf_counter() - handed_out if ahead else 0.0
                if not ahead:
                    steps.go_on()
        finally:
            steps.put_back()

    def _noise_canvas(self, number: int, positions: Positions[AnyFrame]) -> State:
        """The state before the first step of a canvas: noise."""
        draw = partial(self.noise.canvas, number, self.model.config.canvas_length)
        return State(positions.canvas(positions.noise(draw, self.model.config.text.vocab_size)))

    def _inputs(self, number: int, positions: Positions[Frame], step: int) -> StepInputs:
        """Temperature and noise of a step of canvas `number`."""
        sampler, C = self.resolved.sampler, self.model.config.canvas_length
        own = self.model.part.rows(C).among(positions.before)
        uniforms = positions.of(self.noise.uniforms(number, step, C))
        renoise = partial(self.noise.renoise, number, step, C)
        return StepInputs(
            self._temperature(step),
            sampler.entropy_bound,
            uniforms[own.own] if own.divided else uniforms,
            positions.noise(renoise, self.model.config.text.vocab_size),
            positions.rows,
            self.exact,
            positions.held,
            own,
        )

    def _temperature(self, step: int) -> float:
        sampler = self.resolved.sampler
        return temperature(step, sampler.max_denoising_steps, sampler.t_min, sampler.t_max)

    def _require_finite(self, number: int, step: int, seen: Outcome) -> None:
        if not math.isfinite(seen.mean_entropy):
            where = f"canvas {number}, step {step}: the distributions"
            raise not_finite(self.model, where)

    def _frame(
        self, number: int, steps: Pipeline, seen: Outcome, lent: float, encode_seconds: float
    ) -> Frame:
        """The frame of the denoised positions after a step; lent: the caller's seconds of it."""
        return Frame(
            canvas=number,
            step=steps.number,
            tokens=seen.best,
            entropies=seen.entropy,
            accepted=seen.accepted,
            temperature=self._temperature(steps.number),
            seconds=steps.seconds,
            caller_seconds=lent,
            encode_seconds=encode_seconds,
            second_tier_rows=seen.second_tier_rows,
            dense_rows=seen.dense_rows,
            strain=seen.strain,
        )
