"""The loop of a template: its holes are denoised with both sides in view, the rest is pinned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from ..checkpoint.config import ModelConfig
from ..errors import PromptError
from ..model.cache import Prefix
from ..model.text import Model, Progress, token_list
from .canvas import Denoiser
from .denoise import fitting_prefix, fresh_seed
from .noise import CounterNoise, Noise
from .pins import FillFrame
from .settings import Settings
from .sheet import Form, Sheet


def fill(
    model: Model,
    prompt_tokens: Sequence[int] | mx.array,
    form: Form,
    settings: Settings | None = None,
    noise: Noise | None = None,
    *,
    prefix: Prefix | None = None,
    progress: Progress | None = None,
) -> Iterator[FillFrame]:
    """Yields a FillFrame a step and a committed one a canvas, as `denoise` does.

    Committed tokens follow each other without gaps and are the template, holes filled and fillers
    removed. PromptError: no prompt, or prompt and template longer than the context.
    """
    settings = settings or Settings()
    resolved = settings.resolved(model.config.sampler, fresh_seed())
    tokens = token_list(prompt_tokens)
    needed_positions(model.config, len(tokens), form)
    prefix = fitting_prefix(model, prefix, tokens)
    noise = noise or CounterNoise(resolved.seed)
    denoiser = Denoiser(model, resolved, noise, settings.exact_self_conditioning)
    return _Loop(denoiser, Sheet(form), tokens).run(prefix, progress)


def needed_positions(config: ModelConfig, prompt_length: int, form: Form) -> int:
    """Positions of prompt and template; PromptError when the model has fewer.

    A canvas never reaches further than the template at full length, or one canvas.
    """
    context, template = config.text.max_position_embeddings, form.num_positions
    needed = prompt_length + max(template, config.canvas_length)
    if prompt_length == 0:
        raise PromptError("the prompt is empty, expected at least one token.")
    if needed > context:
        raise PromptError(
            f"{prompt_length:,} prompt tokens and a template of {template:,} need {needed:,} "
            f"positions, the model has {context:,}; shorten the prompt or the template, or lower "
            "gaps."
        )
    return needed


@dataclass
class _Loop:
    """One template on its way."""

    denoiser: Denoiser
    sheet: Sheet
    prompt: list[int]

    def run(self, prefix: Prefix, progress: Progress | None) -> Iterator[FillFrame]:
        sheet, C = self.sheet, self.denoiser.model.config.canvas_length
        prefix.reserve(len(self.prompt) + max(sheet.form.num_positions, C))
        committed = number = 0
        start = sheet.begin(0, C)
        while True:
            pending = [*self.prompt, *sheet.tokens[:start]][prefix.length :]
            frame = yield from self.denoiser.next_canvas(
                number, pending, prefix, sheet.pins(start, C), progress=progress
            )
            sheet.settle(start, frame.tokens.tolist())
            end = len(sheet.tokens) if sheet.complete else sheet.begin(start, C)
            yield self._commit(frame, committed, end)
            if sheet.complete:
                return
            committed = start = end
            number += 1

    def _commit(self, frame: FillFrame, first: int, end: int) -> FillFrame:
        """The frame of a finished canvas: what is settled from `first` to `end`."""
        return replace(
            frame,
            tokens=np.array(self.sheet.tokens[first:end], np.int32),
            holes=np.array(self.sheet.holes[first:end], np.int32),
            committed=True,
            finish_reason="stop" if self.sheet.complete else None,
            seconds=0.0,
        )
