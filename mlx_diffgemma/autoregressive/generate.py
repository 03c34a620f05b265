"""A generation in any mode: canvases, tokens, or of both what the router chooses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..constrain.constraint import Constraint
from ..diffusion.canvas import Denoiser
from ..diffusion.denoise import denoise
from ..diffusion.held import Held
from ..diffusion.positions import AllPositions
from ..errors import SettingsError
from ..generation.agreement import require_same_answer, require_shareable, shared_seed
from ..generation.frame import Frame, committed, ended
from ..generation.noise import CounterNoise
from ..generation.prompt import Prompt, fitting_prefix, token_budget
from ..generation.settings import Resolved, Settings
from ..images.pixels import Pixels
from ..model.prefix import Prefix
from ..model.text import Model, Progress
from ..share.guard import lost_macs
from .lookup import Lookup, drafts_of
from .router import Router
from .write import Writer, write


def generate(
    model: Model,
    prompt_tokens: list[int],
    settings: Settings,
    *,
    images: Sequence[Pixels] = (),
    prefix: Prefix | None = None,
    progress: Progress | None = None,
    router: Router | None = None,
    watched: bool = False,
    lookup: Lookup | None = None,
    constraint: Constraint | None = None,
) -> Iterator[Frame]:
    """Frames of the mode that the settings ask for; router: the one that decides in mode auto, by
    the same times on all Macs that share.

    For the other arguments and errors see `diffusion.denoise.denoise`; watched and lookup are those
    of `write`. Segments of both modes move the one constraint on.
    """
    require_shareable(model.part, settings.mode)
    if settings.mode == "diffusion":
        return denoise(
            model,
            prompt_tokens,
            settings,
            images=images,
            prefix=prefix,
            progress=progress,
            constraint=constraint,
        )
    if settings.mode == "ar":
        return write(
            model,
            prompt_tokens,
            settings,
            images=images,
            prefix=prefix,
            progress=progress,
            watched=watched,
            lookup=lookup,
            constraint=constraint,
        )
    if router is None:
        raise SettingsError("mode auto has no router, expected one with the times it decides by.")
    prompt = Prompt(prompt_tokens, model.placed(prompt_tokens, images))
    resolved = settings.resolved(model.config, shared_seed(model.part.share))
    lookup = lookup or drafts_of(model, settings)
    noise = CounterNoise(resolved.seed)
    writer = Writer(model, resolved.tokens, noise, prompt, watched, lookup, constraint)
    both = _both(settings, resolved, writer, router)
    return both.run(fitting_prefix(model, prefix, prompt), progress)


def _both(settings: Settings, resolved: Resolved, writer: Writer, router: Router) -> "_Auto":
    """A writer and a denoiser of the same prompt and noise, and the tokens that they may write."""
    model, prompt, exact = writer.model, writer.prompt, settings.exact_self_conditioning
    budget = token_budget(
        model.config,
        len(prompt.tokens),
        settings.max_tokens,
        prompt.soft_tokens,
        mode=settings.certain_mode,
    )
    form = writer.constraint
    positions = AllPositions(Held.of_answer(form, model.config, budget) if form else None)
    denoiser = Denoiser(model, resolved, writer.noise, exact, prompt)
    return _Auto(denoiser, writer, router, budget, positions)


@dataclass(frozen=True)
class _Auto:
    """Segment behind segment, each in the mode that the router chooses."""

    denoiser: Denoiser
    writer: Writer
    router: Router
    max_tokens: int
    positions: AllPositions  # held to the writer's constraint, if it has one

    def run(self, prefix: Prefix, progress: Progress | None) -> Iterator[Frame]:
        config, prompt = self.denoiser.model.config, self.denoiser.prompt
        C, context = config.canvas_length, config.text.max_position_embeddings
        prefix.reserve(min(context, len(prompt.tokens) + -(-self.max_tokens // C) * C))
        written: list[int] = []
        number = 0
        while True:
            left = self.max_tokens - len(written)
            room = context - len(prompt.tokens) - len(written)
            if self.router.decide(left, room) == "diffusion":
                behind = [*prompt.tokens, *written][max(prefix.length, len(prompt.tokens)) :]
                last = yield from self.denoiser.next_canvas(
                    number, behind, prefix, self.positions, progress=progress
                )
                self.router.steps.append(last.step + 1)
            else:
                if number == 0:
                    self._agree(prefix)
                last = yield from self.writer.segment(
                    number, written, min(C, left), prefix, progress=progress
                )
            tokens = last.tokens[:left]
            tokens, reason = ended(tokens, config.stop_ids, is_last=len(tokens) == left)
            written += tokens.tolist()
            yield committed(last, tokens, reason)
            if reason:
                return
            number += 1

    def _agree(self, prefix: Prefix) -> None:
        """ShareError where Macs are asked unlike things, which a first canvas finds out itself."""
        share = self.writer.model.part.share
        with lost_macs(share):
            require_same_answer(share, self.writer.prompt, prefix, self.denoiser.resolved)
