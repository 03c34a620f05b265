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
from ..errors import PromptError, Setting, SettingsError, counted
from ..images.pixels import Pixels
from ..model.cache import Prefix, own_prefix
from ..model.given import Floats, Ids, floats, token_ids
from ..model.text import Model, Progress
from .canvas import AllPositions, Denoiser, Frame, Prompt, committed
from .noise import Noise, checked_noise
from .settings import Settings
from .step import State

__all__ = ["Frame", "denoise", "fresh_seed", "token_budget"]

DEFAULT_MAX_TOKENS = 1024


def fresh_seed() -> int:
    """A seed nobody chose, short enough to type again."""
    return secrets.randbits(32)


def denoise(
    model: Model,
    prompt_tokens: Ids,
    settings: Settings | None = None,
    noise: Noise | None = None,
    *,
    canvas: Ids | None = None,
    soft: Floats | None = None,
    images: Sequence[Pixels] = (),
    prefix: Prefix | None = None,
    progress: Progress | None = None,
) -> Iterator[Frame]:
    """Yield a Frame a step and a committed one a canvas, each when it is done.

    prompt_tokens: the whole prompt; what `prefix` already holds of it is not encoded again. images:
    those of the whole prompt, in order, each with a run of config.image_token_id in it; in a canvas
    that is a token like others. canvas [C] and soft (processed logits [C, V]) warm-start the first
    canvas only. progress is told of encoded prompt positions. PromptError: no token ids, none at
    all, more than the context holds with its canvases, runs that differ from the images, or another
    model's prefix; CheckpointError: images for a checkpoint that sees none; SettingsError: a warm
    start or noise that is none; NumericsError: weights that are not finite.
    """
    settings = settings or Settings()
    resolved = settings.resolved(model.config, fresh_seed())
    tokens = token_ids(prompt_tokens, model.config.text.vocab_size)
    prompt = Prompt(tokens, model.placed(tokens, images))
    max_tokens = token_budget(model.config, len(tokens), settings.max_tokens, prompt.soft_tokens)
    start = _start(model, canvas, soft)
    prefix = fitting_prefix(model, prefix, prompt)
    noise = checked_noise(noise, resolved.seed)
    denoiser = Denoiser(model, resolved, noise, settings.exact_self_conditioning, prompt)
    return _Loop(denoiser).run(max_tokens, prefix, start, progress)


def fitting_prefix(model: Model, prefix: Prefix | None, prompt: Prompt) -> Prefix:
    """The prefix given, or an empty one; PromptError for another model's, or another prompt's."""
    prefix = model.new_prefix() if prefix is None else own_prefix(prefix, model)
    if prefix.shared(prompt.tokens, [image.run(0) for image in prompt.images]) < prefix.length:
        raise PromptError(
            "the prefix holds other tokens or images than the prompt begins with; give an empty "
            "one."
        )
    return prefix


def token_budget(
    config: ModelConfig, prompt_length: int, max_tokens: int | None, soft_tokens: int = 0
) -> int:
    """Tokens that may be returned; PromptError where prompt and whole canvases do not fit.

    soft_tokens: those of the prompt that stand for images.
    """
    context, C = config.text.max_position_embeddings, config.canvas_length
    if prompt_length == 0:
        raise PromptError("the prompt is empty, expected at least one token.")
    fitting = max(0, context - prompt_length) // C
    wanted = -(-(max_tokens or DEFAULT_MAX_TOKENS) // C)
    if fitting == 0 or (max_tokens is not None and fitting < wanted):
        canvases = wanted if max_tokens is not None else 1
        raise PromptError(
            f"{prompt_size(prompt_length, soft_tokens)} and {counted(canvases, 'canvas')} of {C} "
            f"need {prompt_length + canvases * C:,} positions, the model has {context:,}; shorten "
            "the prompt",
            *ways_down("max_tokens", soft_tokens),
        )
    return max_tokens or min(DEFAULT_MAX_TOKENS, fitting * C)


def prompt_size(length: int, soft_tokens: int) -> str:
    """The tokens of a prompt in words, and how many of them are images'."""
    images = f", {soft_tokens:,} of them for images," if soft_tokens else ""
    return f"{counted(length, 'prompt token')}{images}"


def ways_down(name: str, soft_tokens: int) -> tuple[str, ...]:
    """The end of a message: a setting to lower, and with images what makes less of those."""
    if not soft_tokens:
        return (" or lower ", Setting(name), ".")
    fewer = ", show fewer images or a shorter video, or lower "
    return (fewer, Setting(name), " or ", Setting("image_tokens"), ".")


def _start(model: Model, canvas: Ids | None, soft: Floats | None) -> State | None:
    """The state of a warm start, checked; None for a cold one."""
    C, V = model.config.canvas_length, model.config.text.vocab_size
    if soft is not None:
        soft = model.soft_embedding(floats(soft, (C, V), "soft logits"))
    if canvas is None:
        if soft is not None:
            raise SettingsError("soft logits without a canvas to begin with; give both.")
        return None
    ids = token_ids(canvas, V, "canvas", SettingsError)
    if len(ids) != C:
        raise SettingsError(f"the canvas has shape [{len(ids)}], expected [{C}].")
    return State(mx.array(ids, mx.int32), soft)


@dataclass(frozen=True)
class _Loop:
    """Canvas behind canvas."""

    denoiser: Denoiser

    def run(
        self,
        max_tokens: int,
        prefix: Prefix,
        start: State | None,
        progress: Progress | None,
    ) -> Iterator[Frame]:
        C = self.denoiser.model.config.canvas_length
        num_canvases = -(-max_tokens // C)
        prefix.reserve(len(self.denoiser.prompt.tokens) + num_canvases * C)
        written: list[int] = []
        for number in range(num_canvases):
            last = yield from self.denoiser.next_canvas(
                number, written, prefix, AllPositions(), start=start, progress=progress
            )
            budget = max_tokens - number * C
            tokens, reason = self._ended(last.tokens[:budget], is_last=number + 1 == num_canvases)
            yield committed(last, tokens, reason)
            if reason:
                return
            written, start = last.tokens.tolist(), None

    def _ended(
        self, tokens: NDArray[np.int32], *, is_last: bool
    ) -> tuple[NDArray[np.int32], str | None]:
        """A canvas's tokens, cut after the first stop id, and the finish reason if it is one."""
        stops = np.flatnonzero(np.isin(tokens, self.denoiser.model.config.stop_ids))
        if stops.size:
            return tokens[: stops[0] + 1], "stop"
        return tokens, "length" if is_last else None
