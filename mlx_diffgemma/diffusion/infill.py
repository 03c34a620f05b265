"""The loop of a template: its holes are denoised with both sides in view, the rest is pinned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoint.config import ModelConfig
from ..constrain.machine import Machine
from ..errors import PromptError
from ..generation.agreement import shared_seed
from ..generation.frame import committed
from ..generation.noise import Noise, checked_noise
from ..generation.prompt import Prompt, fitting_prefix, prompt_size, ways_down
from ..generation.settings import Settings
from ..images.pixels import Pixels
from ..model.given import Ids, token_ids
from ..model.prefix import Prefix
from ..model.text import Model, Progress
from .canvas import Denoiser
from .formed import FormedHoles
from .pinned import FillFrame
from .template import TemplateState, TokenTemplate


def fill(
    model: Model,
    prompt_tokens: Ids,
    template: TokenTemplate,
    settings: Settings | None = None,
    noise: Noise | None = None,
    *,
    images: Sequence[Pixels] = (),
    prefix: Prefix | None = None,
    progress: Progress | None = None,
    forms: Sequence[Machine | None] | None = None,
) -> Iterator[FillFrame]:
    """Yield a FillFrame a step and a committed one a canvas, as `denoise` does.

    Committed tokens follow each other without gaps: together they are the template, with its holes
    filled and fillers removed. images: those of the whole prompt; the template has none. forms: of
    each hole that has one, whose `stops` and fillers are the template's; None for a hole without.
    Errors as `denoise` has them; PromptError for more positions than the model has, ConstraintError
    for a hole too short for its form.
    """
    settings = settings or Settings()
    resolved = settings.resolved(model.config, shared_seed(model.part.share))
    tokens = token_ids(prompt_tokens, model.config.text.vocab_size)
    prompt = Prompt(tokens, model.placed(tokens, images))
    needed_positions(model.config, len(tokens), template, prompt.soft_tokens)
    prefix = fitting_prefix(model, prefix, prompt)
    noise = checked_noise(noise, resolved.seed)
    denoiser = Denoiser(model, resolved, noise, settings.exact_self_conditioning, prompt)
    formed = None if forms is None else FormedHoles(tuple(forms), template.lengths)
    return _Loop(denoiser, TemplateState(template), formed).run(prefix, progress)


def needed_positions(
    config: ModelConfig, prompt_length: int, template: TokenTemplate, soft_tokens: int = 0
) -> int:
    """Positions of prompt and template; PromptError when the model has fewer.

    soft_tokens: those of the prompt that stand for images. A canvas never reaches further than the
    template at full length, or one canvas.
    """
    context, length = config.text.max_position_embeddings, template.num_positions
    needed = prompt_length + max(length, config.canvas_length)
    if prompt_length == 0:
        raise PromptError("the prompt is empty, expected at least one token.")
    if needed > context:
        raise PromptError(
            f"{prompt_size(prompt_length, soft_tokens)} and a template of {length:,} need "
            f"{needed:,} positions, the model has {context:,}; shorten the prompt or the template",
            *ways_down("gaps", soft_tokens),
            too_long=True,
        )
    return needed


@dataclass
class _Loop:
    """One template on its way."""

    denoiser: Denoiser
    state: TemplateState
    forms: FormedHoles | None = None

    def run(self, prefix: Prefix, progress: Progress | None) -> Iterator[FillFrame]:
        state, C = self.state, self.denoiser.model.config.canvas_length
        prefix.reserve(len(self.denoiser.prompt.tokens) + max(state.template.num_positions, C))
        first = number = encoded = 0
        start = state.begin(0, C)
        while True:
            behind = state.tokens[encoded:start]
            positions = state.positions(start, C)
            if self.forms is not None:
                positions = self.forms.held(positions, state)
            frame = yield from self.denoiser.next_canvas(
                number, behind, prefix, positions, progress=progress
            )
            encoded = start
            state.settle(start, frame.tokens.tolist())
            end = len(state.tokens) if state.complete else state.begin(start, C)
            yield self._commit(frame, first, end)
            if state.complete:
                return
            first = start = end
            number += 1

    def _commit(self, last: FillFrame, first: int, end: int) -> FillFrame:
        """The frame of a finished canvas: the tokens settled from `first` to `end`."""
        tokens = np.array(self.state.tokens[first:end], np.int32)
        holes = np.array(self.state.holes[first:end], np.int32)
        return committed(last, tokens, "stop" if self.state.complete else None, holes=holes)
