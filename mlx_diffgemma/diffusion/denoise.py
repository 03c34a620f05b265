"""The loop: canvas after canvas, step after step, as a generator of Frames.

The caller decides when to draw, keep or stop. Nothing here prints, and no text is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..constrain.constraint import Constraint
from ..errors import SettingsError
from ..generation.agreement import shared_seed
from ..generation.frame import Frame, committed, ended
from ..generation.noise import Noise, checked_noise
from ..generation.prompt import Prompt, fitting_prefix, token_budget
from ..generation.settings import Settings
from ..images.pixels import Pixels
from ..model.given import Floats, Ids, floats, token_ids
from ..model.prefix import Prefix
from ..model.text import Model, Progress
from .canvas import Denoiser
from .held import Held
from .positions import AllPositions
from .state import State


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
    constraint: Constraint | None = None,
) -> Iterator[Frame]:
    """Yield a Frame a step and a committed one a canvas, each when it is done.

    prompt_tokens: the whole prompt; what `prefix` already holds of it is not encoded again. images:
    those of the whole prompt, in order, each with a run of config.image_token_id in it; in a canvas
    that is a token like others. canvas [C] and soft (processed logits [C, V]) warm-start the first
    canvas only. progress is told of encoded prompt positions. constraint: the form of the answer,
    whose state moves behind each canvas. PromptError: no token ids, none at all, more than the
    context holds with its canvases, runs that differ from the images, or another model's prefix;
    CheckpointError: images for a checkpoint that sees none; SettingsError: a warm start or noise
    that is none; ConstraintError: a form for another vocabulary, or for more tokens;
    NumericsError: weights that are not finite.
    """
    settings = settings or Settings()
    resolved = settings.resolved(model.config, shared_seed(model.part.share))
    tokens = token_ids(prompt_tokens, model.config.text.vocab_size)
    prompt = Prompt(tokens, model.placed(tokens, images))
    max_tokens = token_budget(model.config, len(tokens), settings.max_tokens, prompt.soft_tokens)
    start = _start(model, canvas, soft)
    held = Held.of_answer(constraint, model.config, max_tokens) if constraint else None
    prefix = fitting_prefix(model, prefix, prompt)
    noise = checked_noise(noise, resolved.seed)
    denoiser = Denoiser(model, resolved, noise, settings.exact_self_conditioning, prompt)
    return _Loop(denoiser, AllPositions(held)).run(max_tokens, prefix, start, progress)


def _start(model: Model, canvas: Ids | None, soft: Floats | None) -> State | None:
    """The state of a warm start, checked; None for a cold one."""
    C, V = model.config.canvas_length, model.config.text.vocab_size
    if soft is not None:
        logits, rows = floats(soft, (C, V), "soft logits"), model.part.rows(C)
        soft = model.soft_embedding(logits[:, rows.own] if rows.divided else logits)
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
    positions: AllPositions

    def run(
        self,
        max_tokens: int,
        prefix: Prefix,
        start: State | None,
        progress: Progress | None,
    ) -> Iterator[Frame]:
        config = self.denoiser.model.config
        C = config.canvas_length
        num_canvases = -(-max_tokens // C)
        prefix.reserve(len(self.denoiser.prompt.tokens) + num_canvases * C)
        written: list[int] = []
        for number in range(num_canvases):
            last = yield from self.denoiser.next_canvas(
                number, written, prefix, self.positions, start=start, progress=progress
            )
            budget = max_tokens - number * C
            is_last = number + 1 == num_canvases
            tokens, reason = ended(last.tokens[:budget], config.stop_ids, is_last=is_last)
            yield committed(last, tokens, reason)
            if reason:
                return
            written, start = last.tokens.tolist(), None
