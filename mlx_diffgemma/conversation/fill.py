"""A template filled in a session: holes are denoised, every other character stays what it was.

It stands alone: the conversation is neither seen nor continued. Its prompt is rendered like a
question; what the session has encoded of that prompt's beginning is used again.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import TypedDict

from ..diffusion.canvas import Frame
from ..diffusion.fill import fill, needed_positions
from ..diffusion.pins import TEXT, FillFrame
from ..diffusion.settings import Settings
from ..diffusion.sheet import TokenTemplate
from ..errors import CheckpointError, DiffGemmaError, PromptError, SettingsError
from ..model.cache import Prefix
from ..model.text import Progress
from ..text.chat import Answer, Message, render_prompt
from ..text.holes import Template, encode_texts, read_template
from .conversation import SessionState
from .reply import Filled, Reply
from .turn import Turn, describe_sampler, ratio, seeded

TURN_END, END = "<turn|>", "<eos>"


class FillOptions(TypedDict, total=False):
    """How a template is to be filled.

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
    session: SessionState,
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
    if session.task and not raw:
        template, puzzle = session.task.template(template)
        prompt = session.task.prepare(prompt) if prompt.strip() else puzzle
    written = read_template(template, gaps)
    form = TokenTemplate(
        encode_texts(session.tokenizer, written), written.lengths, *_endings(session)
    )
    tokens = _prompt_ids(session, prompt, session.system if system is None else system, raw)
    settings = seeded(settings)
    for name, value in (("max_tokens", settings.max_tokens), ("stop", settings.stop)):
        if value:
            raise SettingsError(
                f"{name} is {value!r}, a template says where it ends; leave it out."
            )
    config = session.model.config
    session.require_room(needed_positions(config, len(tokens), form))
    sampler = describe_sampler(settings, config.sampler, sum(form.lengths))
    return FillTurn(
        session,
        prompt,
        tokens,
        settings,
        sampler,
        raw,
        progress,
        template=written,
        form=form,
        puzzle=puzzle,
    )


def _prompt_ids(session: SessionState, prompt: str, system: str | None, raw: bool) -> list[int]:
    """The ids in front of the template; without a prompt an empty question, or bos alone."""
    tokenizer = session.tokenizer
    if not raw and (prompt or system or tokenizer.chat_template is not None):
        first = [Message("system", system)] if system else []
        return render_prompt(tokenizer, [*first, Message("user", prompt)])
    ids = tokenizer.encode(prompt or tokenizer.bos_token or "")
    if not ids:
        raise PromptError("the prompt is empty and the tokenizer has no bos; give a prompt.")
    return ids


def _endings(session: SessionState) -> tuple[tuple[int, ...], int, frozenset[int]]:
    """What stands behind a template, and what ends a hole: closing, padding and fillers of a
    TokenTemplate.

    As in training: the end of the turn where it is a stop id, then the end of text up to the end
    of the canvas. Any control token ends a hole.
    """
    tokenizer, stop_ids = session.tokenizer, session.model.config.stop_ids
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
        whole = super().reply()
        holes = self._holes()
        count = sum(map(len, holes))
        given = {f.name: getattr(whole, f.name) for f in fields(Reply)}
        given["generated_tokens"] = count
        given["tokens_per_step"] = ratio(count, sum(whole.steps))
        given["tokens_per_second"] = ratio(count, whole.seconds.total)
        return Filled(**given, holes=tuple(map(self.session.tokenizer.decode, holes)))

    def problem(self) -> str | None:
        """Why the grid is no solution of the puzzle that was given as a template, or None."""
        if self.session.task is None or self.puzzle is None:
            return None
        return self.session.task.problem(self.puzzle, self.reply().text)

    def _frames(self, prefix: Prefix) -> Iterator[Frame]:
        return fill(
            self.session.model,
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
            text += part + self.session.tokenizer.decode(holes[number] if holes[number:] else ())
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
        """How many of the template's own tokens are finished; an error if one is not its own."""
        own = [token for token, hole in self._placed() if hole == TEXT]
        given = list(chain.from_iterable(self.form.texts))
        if own != given[: len(own)] or (self.finished and len(own) != len(given)):
            raise DiffGemmaError(
                "the template's own text changed while its holes were filled, expected to find it "
                "as it was; this is a defect of mlx-diffgemma, please report it."
            )
        return len(own)
