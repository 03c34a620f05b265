"""The loop: canvas after canvas, step after step, as a generator of Frames.

The caller decides when to draw, keep or stop. Nothing here prints, and no text is known.
"""

import math
import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..config import ModelConfig
from ..errors import NumericsError, PromptError, SettingsError
from ..model.cache import Prefix
from ..model.text import Model, Progress, token_list
from .noise import CounterNoise, Noise
from .sampler import temperature
from .settings import Resolved, Settings
from .step import denoising_step

DEFAULT_MAX_TOKENS = 1024


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


def fresh_seed() -> int:
    """A seed nobody chose, short enough to type again."""
    return secrets.randbits(32)


def denoise(
    model: Model,
    prompt_tokens: Sequence[int] | mx.array,
    settings: Settings | None = None,
    noise: Noise | None = None,
    *,
    canvas: mx.array | None = None,
    soft: mx.array | None = None,
    prefix: Prefix | None = None,
    progress: Progress | None = None,
) -> Iterator[Frame]:
    """Yields a Frame a step and a committed one a canvas, each when it is done.

    prompt_tokens: the whole prompt; what `prefix` already holds of it is not encoded again. canvas
    [C] and soft (processed logits [C, V]) warm-start the first canvas only. progress is told of
    encoded prompt positions. PromptError: empty, or longer than the context with its canvases;
    NumericsError: weights that are not finite.
    """
    settings = settings or Settings()
    resolved = settings.resolved(model.config.sampler, fresh_seed())
    tokens = token_list(prompt_tokens)
    max_tokens = token_budget(model.config, len(tokens), settings.max_tokens)
    start = _start(model, canvas, soft)
    prefix = prefix if prefix is not None else model.new_prefix()
    if prefix.tokens != tokens[: prefix.length]:
        raise PromptError(
            "the prefix holds other tokens than the prompt begins with; give an empty one."
        )
    loop = _Loop(model, resolved, noise or CounterNoise(resolved.seed), settings)
    return loop.run(tokens, max_tokens, prefix, start, progress)


def token_budget(config: ModelConfig, prompt_length: int, max_tokens: int | None) -> int:
    """How many tokens may be returned; PromptError when prompt and whole canvases do not fit."""
    context, C = config.text.max_position_embeddings, config.canvas_length
    if prompt_length == 0:
        raise PromptError("the prompt is empty, expected at least one token.")
    fitting = max(0, context - prompt_length) // C
    wanted = -(-(max_tokens or DEFAULT_MAX_TOKENS) // C)
    if fitting == 0 or (max_tokens is not None and fitting < wanted):
        canvases = wanted if max_tokens is not None else 1
        raise PromptError(
            f"{prompt_length:,} prompt tokens and {canvases} canvas{'es' * (canvases > 1)} of {C} "
            f"need {prompt_length + canvases * C:,} positions, the model has {context:,}; shorten "
            "the prompt or lower max_tokens."
        )
    return max_tokens or min(DEFAULT_MAX_TOKENS, fitting * C)


@dataclass
class _Canvas:
    """The state one denoising step hands to the next."""

    tokens: mx.array  # [C] int32
    soft: mx.array | None  # [1, C, H]


def _start(model: Model, canvas: mx.array | None, soft: mx.array | None) -> _Canvas | None:
    """The state of a warm start, checked; None for a cold one."""
    C, V = model.config.canvas_length, model.config.text.vocab_size
    if soft is not None:
        if soft.size != C * V:
            raise SettingsError(f"soft logits have shape {list(soft.shape)}, expected [{C}, {V}].")
        soft = model.soft_embedding(soft.reshape(1, C, V))
    if canvas is None:
        if soft is not None:
            raise SettingsError("soft logits without a canvas to begin with; give both.")
        return None
    if canvas.size != C:
        raise SettingsError(f"the canvas has shape {list(canvas.shape)}, expected [{C}].")
    ids = canvas.reshape(-1).astype(mx.int32)
    if not bool(((ids >= 0) & (ids < V)).all()):
        raise SettingsError(f"the canvas holds ids outside the vocabulary of {V}.")
    return _Canvas(ids, soft)


@dataclass(frozen=True)
class _Loop:
    """One call's model and sampler."""

    model: Model
    resolved: Resolved
    noise: Noise
    settings: Settings

    def run(
        self,
        prompt: list[int],
        max_tokens: int,
        prefix: Prefix,
        start: _Canvas | None,
        progress: Progress | None,
    ) -> Iterator[Frame]:
        C = self.model.config.canvas_length
        num_canvases = -(-max_tokens // C)
        prefix.reserve(len(prompt) + num_canvases * C)
        pending = prompt[prefix.length :]
        for number in range(num_canvases):
            began = time.perf_counter()
            if pending:
                self.model.encode(pending, prefix, progress=progress if number == 0 else None)
            if number == 0:
                prefix.mark()
            encode_seconds = time.perf_counter() - began
            frame = yield from self._canvas(number, prefix, start, encode_seconds)
            mx.clear_cache()
            committed = self._commit(frame, max_tokens - number * C, number + 1 == num_canvases)
            yield committed
            if committed.finish_reason:
                return
            pending, start = frame.tokens.tolist(), None

    def _canvas(
        self, number: int, prefix: Prefix, start: _Canvas | None, encode_seconds: float
    ) -> Generator[Frame, None, Frame]:
        """The steps of one canvas until it is settled or the steps run out; returns the last."""
        sampler, text = self.resolved.sampler, self.model.config.text
        C = self.model.config.canvas_length
        state = start or _Canvas(self.noise.canvas(number, C, text.vocab_size).reshape(-1), None)
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
                temperature=t,
                entropy_bound=sampler.entropy_bound,
                uniforms=self.noise.uniforms(number, step, C),
                renoise=self.noise.renoise(number, step, C, text.vocab_size).reshape(-1),
                previous=previous,
                exact=self.settings.exact_self_conditioning,
            )
            frame = Frame(
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
            yield frame
            step += 1
            streak = streak + 1 if done.unchanged else 0
            stable = streak >= sampler.stability_threshold
            certain = done.mean_entropy < sampler.confidence_threshold
            if step == sampler.max_denoising_steps or (stable and certain):
                return frame
            state = _Canvas(done.next_canvas, done.soft(self.model))
            previous = done.best
            del done  # its logits

    def _commit(self, frame: Frame, budget: int, last: bool) -> Frame:
        """The frame's tokens, cut after the first stop id and at `budget`."""
        tokens = frame.tokens[:budget]
        stops = np.flatnonzero(np.isin(tokens, self.model.config.stop_ids))
        if stops.size:
            tokens = tokens[: stops[0] + 1]
        reason = "stop" if stops.size else "length" if last else None
        return replace(frame, tokens=tokens, committed=True, finish_reason=reason, seconds=0.0)

    def _non_finite(self, canvas: int, step: int) -> str:
        culprit = self.model.find_non_finite()
        where = f"tensor {culprit} holds NaN or Inf" if culprit else "all weights are finite"
        return (
            f"canvas {canvas}, step {step}: the distributions are not finite; {where}; "
            "download or convert the checkpoint again, or try another --dtype."
        )
