"""A template being filled: holes are denoised, every other character stays as it was.

A template stands alone: the conversation is neither seen nor continued. The prompt is rendered like
a question; what the conversation has encoded of that prompt's beginning is used again.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypedDict

from ..diffusion.canvas import Frame
from ..diffusion.infill import fill, needed_positions
from ..diffusion.pinned import TEXT, FillFrame
from ..diffusion.settings import Settings
from ..diffusion.template import TokenTemplate
from ..errors import CheckpointError, DiffGemmaError, PromptError, SettingsError
from ..model.cache import Prefix
from ..model.text import Progress
from ..text.chat import Answer, render_prompt
from ..text.holes import Template, encode_texts, read_template
from ..text.tokenizer import Tokenizer
from .conversation import Conversation, messages_for
from .loading import Engine
from .reply import Filled, describe_sampler
from .turn import Turn, seeded

TURN_END, END = "<turn|>", "<eos>"


class FillOptions(TypedDict, total=False):
    """Options of a template.

    prompt: what to write, free and by default empty; gaps: tokens of the `[[...]]` holes, one
    number for all or one each, by default 32; system: in place of the session's system text; raw:
    the prompt's tokens as they are, no template around them; progress: told of encoded positions.
    """

    prompt: str
    gaps: int | Sequence[int] | None
    settings: Settings | None
    system: str | None
    raw: bool
    progress: Progress | None


def fill_turn(
    engine: Engine,
    conversation: Conversation,
    template: str,
    *,
    prompt: str = "",
    gaps: int | Sequence[int] | None = None,
    settings: Settings | None = None,
    system: str | None = None,
    raw: bool = False,
    progress: Progress | None = None,
) -> "FillTurn":
    """A template about to be filled, checked; nothing is computed before it is iterated.

    For the options see FillOptions.
    """
    puzzle = None
    if engine.task and not raw:
        template, puzzle = engine.task.template(template)
        prompt = engine.task.prepare(prompt) if prompt.strip() else puzzle
    written = read_template(template, gaps)
    form = TokenTemplate(
        encode_texts(engine.tokenizer, written), written.lengths, *_endings(engine)
    )
    system = conversation.system if system is None else system
    tokens = _prompt_ids(engine.tokenizer, prompt, system, raw)
    settings = _without_ends(seeded(settings))
    config = engine.model.config
    engine.require_room(needed_positions(config, len(tokens), form))
    return FillTurn(
        engine,
        conversation,
        prompt,
        tokens,
        settings,
        describe_sampler(settings, config.sampler, sum(form.lengths)),
        raw,
        progress,
        template=written,
        form=form,
        puzzle=puzzle,
    )


def _without_ends(settings: Settings) -> Settings:
    """The settings; SettingsError for one that says where the template does."""
    for name, value in (("max_tokens", settings.max_tokens), ("stop", settings.stop)):
        if value:
            raise SettingsError(
                f"{name} is {value!r}, a template says where it ends; leave it out."
            )
    return settings


def _prompt_ids(tokenizer: Tokenizer, prompt: str, system: str | None, raw: bool) -> list[int]:
    """The ids in front of the template; without a prompt an empty question, or bos alone."""
    if not raw and (prompt or system or tokenizer.chat_template is not None):
        return render_prompt(tokenizer, messages_for(prompt, system))
    ids = tokenizer.encode(prompt or tokenizer.bos_token or "")
    if not ids:
        raise PromptError("the prompt is empty and the tokenizer has no bos; give a prompt.")
    return ids


def _endings(engine: Engine) -> tuple[tuple[int, ...], int, frozenset[int]]:
    """Closing and padding, the ids behind a template, and fillers, those that end a hole.

    As in training: the end of the turn where it is a stop id, then the end of text up to the end
    of the canvas. Any control token ends a hole.
    """
    tokenizer, stop_ids = engine.tokenizer, engine.model.config.stop_ids
    named = (END, tokenizer.special_tokens.get("eos_token", END))
    known = [index for token in named if (index := tokenizer.id_of(token)) is not None]
    if not (ends := [*known, *stop_ids]):
        raise CheckpointError(
            f"{tokenizer.folder} names no end of text, expected an eos_token to stand behind a "
            "template; add one to tokenizer_config.json."
        )
    turn_end = tokenizer.id_of(TURN_END)
    closing = turn_end if turn_end is not None and turn_end in stop_ids else ends[0]
    return (closing,), ends[0], tokenizer.control_ids | frozenset(ends)


@dataclass(kw_only=True)
class FillTurn(Turn):
    """A template being filled. Iterate it once for its frames; ask for what it is any time.

    An iteration given up early leaves the template up to where canvases are finished.
    """

    template: Template
    form: TokenTemplate
    puzzle: str | None  # what the task has to say is right or wrong

    @property
    def stop_ids(self) -> Collection[int]:
        """None: one in a hole ends that hole only."""
        return ()

    def reply(self) -> Filled:
        """The template as far as it is filled."""
        holes = tuple(map(self.engine.tokenizer.decode, self._holes()))
        return Filled(**vars(super().reply()), holes=holes)

    def problem(self) -> str | None:
        """The reason that the grid does not solve the puzzle given as a template, or None."""
        if self.engine.task is None or self.puzzle is None:
            return None
        return self.engine.task.problem(self.puzzle, self.reply().text)

    def _count(self, ids: list[int]) -> int:
        """The number of tokens in the holes."""
        return sum(map(len, self._holes()))

    def _frames(self, prefix: Prefix) -> Iterator[Frame]:
        return fill(
            self.engine.model,
            self.prompt_ids,
            self.form,
            self.settings,
            prefix=prefix,
            progress=self.progress,
        )

    def _answer(self, ids: list[int]) -> Answer:
        """The template's own text and the holes between, as far as whole texts are finished."""
        left = self._checked_length()
        holes = self._holes()
        text = ""
        for number, part in enumerate(self.template.texts):
            left -= len(self.form.texts[number])
            if left < 0:
                break
            text += part + self.engine.tokenizer.decode(holes[number] if holes[number:] else ())
        return Answer(text, None, ())

    def _remember(self) -> None:
        """The conversation goes on without it."""

    def _placed(self) -> Iterator[tuple[int, int]]:
        """Every finished token, and the hole it stands in."""
        for frame in self.committed:
            if isinstance(frame, FillFrame):
                yield from zip(frame.tokens.tolist(), frame.holes.tolist(), strict=True)

    def _holes(self) -> list[list[int]]:
        """The ids of each hole, as far as it is filled."""
        holes: list[list[int]] = [[] for _ in self.form.lengths]
        for token, hole in self._placed():
            if hole != TEXT:
                holes[hole].append(token)
        return holes

    def _checked_length(self) -> int:
        """The number of finished tokens of the template's own; an error if one has changed."""
        own = [token for token, hole in self._placed() if hole == TEXT]
        given = list(chain.from_iterable(self.form.texts))
        if own != given[: len(own)] or (self.finished and len(own) != len(given)):
            raise DiffGemmaError(
                "the template's own text changed while its holes were filled, expected to find it "
                "as it was; this is a defect of mlx-diffgemma, please report it."
            )
        return len(own)
