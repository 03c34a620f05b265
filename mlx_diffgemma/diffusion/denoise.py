"""The loop: canvas after canvas, step after step, as a generator of Frames.

The caller decides when to draw, keep or stop. Nothing here prints, and no text is known.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig
from ..errors import PromptError, Setting, SettingsError
from ..model.cache import Prefix
from ..model.text import Model, Progress, token_list
from .canvas import AllPositions, Denoiser, Frame, committed
from .noise import CounterNoise, Noise
from .settings import Settings
from .step import State

__all__ = ["Frame", "denoise", "fresh_seed", "token_budget"]

DEFAULT_MAX_TOKENS = 1024


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
    """Yield a Frame a step and a committed one a canvas, each when it is done.

    prompt_tokens: the whole prompt; what `prefix` already holds of it is not encoded again. canvas
    [C] and soft (processed logits [C, V]) warm-start the first canvas only. progress is told of
    encoded prompt positions. PromptError: empty, or longer than the context with its canvases;
    NumericsError: weights that are not finite.
    """
    settings = settings or Settings()
    resolved = settings.resolved(model.config, fresh_seed())
    tokens = token_list(prompt_tokens)
    max_tokens = token_budget(model.config, len(tokens), settings.max_tokens)
    start = _start(model, canvas, soft)
    prefix = fitting_prefix(model, prefix, tokens)
    noise = noise or CounterNoise(resolved.seed)
    denoiser = Denoiser(model, resolved, noise, settings.exact_self_conditioning)
    return _Loop(denoiser).run(tokens, max_tokens, prefix, start, progress)


def fitting_prefix(model: Model, prefix: Prefix | None, tokens: Sequence[int]) -> Prefix:
    """The prefix given, or an empty one; PromptError when `tokens` do not begin with it."""
    prefix = prefix if prefix is not None else model.new_prefix()
    if prefix.tokens != list(tokens[: prefix.length]):
        raise PromptError(
            "the prefix holds other tokens than the prompt begins with; give an empty one."
        )
    return prefix


def token_budget(config: ModelConfig, prompt_length: int, max_tokens: int | None) -> int:
    """Tokens that may be returned; PromptError where prompt and whole canvases do not fit."""
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
            "the prompt or lower ",
            Setting("max_tokens"),
            ".",
        )
    return max_tokens or min(DEFAULT_MAX_TOKENS, fitting * C)


def _start(model: Model, canvas: mx.array | None, soft: mx.array | None) -> State | None:
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
    return State(ids, soft)


@dataclass(frozen=True)
class _Loop:
    """Canvas behind canvas."""

    denoiser: Denoiser

    def run(
        self,
        prompt: list[int],
        max_tokens: int,
        prefix: Prefix,
        start: State | None,
        progress: Progress | None,
    ) -> Iterator[Frame]:
        C = self.denoiser.model.config.canvas_length
        num_canvases = -(-max_tokens // C)
        prefix.reserve(len(prompt) + num_canvases * C)
        pending = prompt[prefix.length :]
        for number in range(num_canvases):
            last = yield from self.denoiser.next_canvas(
                number, pending, prefix, AllPositions(), start=start, progress=progress
            )
            budget = max_tokens - number * C
            tokens, reason = self._ended(last.tokens[:budget], is_last=number + 1 == num_canvases)
            yield committed(last, tokens, reason)
            if reason:
                return
            pending, start = last.tokens.tolist(), None

    def _ended(
        self, tokens: NDArray[np.int32], *, is_last: bool
    ) -> tuple[NDArray[np.int32], str | None]:
        """A canvas's tokens, cut after the first stop id, and the finish reason if it is one."""
        stops = np.flatnonzero(np.isin(tokens, self.denoiser.model.config.stop_ids))
        if stops.size:
            return tokens[: stops[0] + 1], "stop"
        return tokens, "length" if is_last else None
