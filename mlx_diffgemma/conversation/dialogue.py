"""Questions that a client asks in full: messages, a text as it is, or a template with holes.

Each is prepared without a model, in any thread: fitted, rendered, encoded, its images decoded and
its form compiled, so that all that can be refused is refused there. Then it begins a turn of a
session, in the thread that computes. No conversation remembers such a turn: the next question comes
with all its messages again, and what its session has encoded of them is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..assets import Task
from ..errors import PromptError, counted
from ..generation.agreement import seeded
from ..generation.prompt import DEFAULT_MAX_TOKENS, fitting_tokens
from ..generation.settings import Settings
from ..images.pixels import Pixels
from ..model.text import Progress
from ..text.chat import Message, encode_text, ignored_of_turns, render_turns
from ..text.holes import Template
from ..text.results import Turn as Said
from ..text.results import writes_images_of_results
from ..text.turns import fit_for_template
from .fill import FillTurn, require_fillable
from .form import Wanted
from .front import Front
from .media import Given
from .prompt import IGNORED, Prompt
from .puzzle import picture_of, puzzle_in
from .state import SessionState
from .turn import Turn
from .turns import Checked, CheckedTemplate, Filling, asked_of, checked, checked_template

INSTEAD = "ask for a completion of a text as it is"


class Prepared(Protocol):
    """A question that was prepared; notes: a line for each thing that is not done as asked."""

    @property
    def checked(self) -> Checked | CheckedTemplate: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def begin(self, session: SessionState, progress: Progress | None = None) -> Turn:
        """The turn, which takes the session's conversation over; to be called where it computes."""
        ...


@dataclass(frozen=True)
class Dialogue:
    """Messages in full and how they are to be answered; images: of all of them, in order."""

    messages: Sequence[Said]
    images: Sequence[Any] = ()
    image_tokens: int | None = None
    wanted: Wanted = field(default_factory=Wanted)
    think: bool = False


@dataclass(frozen=True)
class Question:
    """A prepared question without a conversation: messages, or a text as it is."""

    checked: Checked
    notes: tuple[str, ...] = ()

    def begin(self, session: SessionState, progress: Progress | None = None) -> Turn:
        """The turn; the problem in a picture of a task is read here, PromptError for none."""
        puzzle = self._puzzle(session)
        return session.conversation.begin(
            lambda _: self.checked.turn(session, progress, puzzle=puzzle, remembered=False)
        )

    def _puzzle(self, session: SessionState) -> str | None:
        """The problem that the session's task can check an answer to, if it has one."""
        question, task = self.checked.question, session.task
        if task is None or self.checked.raw:
            return None
        (picture,) = question.media or (None,)
        if not isinstance(picture, Pixels):
            return question.content
        return puzzle_in(session.model, session.tokenizer, task, picture)


@dataclass(frozen=True)
class Filled:
    """A prepared template."""

    checked: CheckedTemplate
    notes: tuple[str, ...] = ()

    def begin(self, session: SessionState, progress: Progress | None = None) -> FillTurn:
        """The turn of the template."""
        return session.conversation.begin(lambda _: self.checked.turn(session, progress, None))


# --- messages


def prepare_dialogue(
    front: Front, dialogue: Dialogue, settings: Settings, most: int = DEFAULT_MAX_TOKENS
) -> Question:
    """The answer to messages, prepared; most: tokens of it where the settings do not say.

    A checkpoint with a task is asked the last user's message alone. PromptError where not even one
    canvas fits behind the prompt; fewer tokens than asked for are a note. For other errors see
    `Session.turn`.
    """
    settings = seeded(settings)
    settings.require_trained(front.config, front.name)
    form = dialogue.wanted.form()
    question, asked, notes = asked_in_full(front, dialogue)
    settings, clamped = fitted(front, asked, settings, most)
    found = checked(
        *(front, question, asked, settings, form),
        think=dialogue.think,
        tools=dialogue.wanted.tools,
    )
    return Question(found, (*notes, *clamped))


def asked_in_full(front: Front, dialogue: Dialogue) -> tuple[Message, Prompt, tuple[str, ...]]:
    """The last question of a dialogue, the prompt of all of it, and a line for what is left out."""
    turns = _fitted(front, dialogue)
    _require_question(turns)
    if front.task is not None:
        return _asked_of_task(front, front.task, dialogue, turns)
    given = Given(list(dialogue.images), None, dialogue.image_tokens)
    media = given.prepared(front.config, front.tokenizer)
    encoded = render_turns(
        *(front.tokenizer, turns, media),
        think=dialogue.think,
        tools=dialogue.wanted.tools,
        image_ids=front.config.image_ids,
        instead=INSTEAD,
    )
    tools = dialogue.wanted.tools
    names = ignored_of_turns(front.tokenizer, turns, think=dialogue.think, tools=tools)
    notes = tuple(IGNORED[name] for name in names)
    question = Message("user", _last_text(turns), media)
    return question, Prompt(encoded.ids, notes, encoded.images), ()


def _fitted(front: Front, dialogue: Dialogue) -> list[Said]:
    """The messages of a dialogue as the template takes them."""
    seen = any(m.get("role") == "tool" for m in dialogue.messages) and bool(dialogue.images)
    in_place = seen and writes_images_of_results(front.tokenizer, front.config.image_ids)
    return fit_for_template(dialogue.messages, images_in_results=in_place)


def _asked_of_task(
    front: Front, task: Task, dialogue: Dialogue, turns: Sequence[Said]
) -> tuple[Message, Prompt, tuple[str, ...]]:
    """The problem in the last user's message, which such a checkpoint has learnt to see alone."""
    text, count = _last_text(turns), _last_images(turns)
    given = Given(list(dialogue.images)[-count:] if count else [], None, dialogue.image_tokens)
    if given:
        pixels = picture_of(front.config, front.tokenizer, task, text, given)
        question = Message("user", "", (pixels,))
    else:
        question = Message("user", task.prepare(text))
    others = len(turns) - 1
    notes = (f"{front.name} sees the last message alone, without {others} others.",)
    return question, asked_of(front, [question]), notes if others else ()


def _require_question(turns: Sequence[Said]) -> None:
    """PromptError where nobody asks anything."""
    if not any(turn["role"] != "system" for turn in turns):
        raise PromptError("there is no message but the system's, expected a user's; write one.")


def _last_text(turns: Sequence[Said]) -> str:
    """The text of the last user's message, "" where there is none."""
    return "\n".join(part["text"] for part in _last_parts(turns) if part["type"] == "text")


def _last_images(turns: Sequence[Said]) -> int:
    """The number of images in the last user's message."""
    return sum(part["type"] == "image" for part in _last_parts(turns))


def _last_parts(turns: Sequence[Said]) -> Sequence[Said]:
    """The last user's message in parts, none where there is none."""
    content = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), ())
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# --- a text as it is, and templates


def prepare_text(front: Front, text: str, settings: Settings) -> Question:
    """The text behind a text as it is, prepared: no template, and no channels in the answer."""
    settings = seeded(settings)
    settings.require_trained(front.config, front.name)
    asked = asked_as_it_is(front, text)
    settings, clamped = fitted(front, asked, settings)
    found = checked(front, Message("user", text), asked, settings, None, raw=True)
    return Question(found, clamped)


def asked_as_it_is(front: Front, text: str) -> Prompt:
    """The prompt of a text as it is; PromptError for one without a token."""
    ids = encode_text(front.tokenizer, text).ids
    if not ids:
        raise PromptError("the prompt is empty, expected some text.")
    return Prompt(ids)


@dataclass(frozen=True)
class Blank:
    """A template to be filled; prompt: what to write, images: in front of it."""

    template: Template
    prompt: str = ""
    images: Sequence[Any] = ()
    image_tokens: int | None = None


def prepare_template(front: Front, blank: Blank, settings: Settings) -> Filled:
    """A template, prepared; errors as `Session.fill_turn` has them."""
    settings = seeded(settings)
    require_fillable(settings)
    media = Given(list(blank.images), None, blank.image_tokens).prepared(
        front.config, front.tokenizer
    )
    question = Message("user", blank.prompt, media)
    how = Filling(blank.template, front.forms.holes(blank.template), None, False, None)
    return Filled(checked_template(front, question, settings, how, None))


# --- both


def fitted(
    front: Front, asked: Prompt, settings: Settings, default: int = DEFAULT_MAX_TOKENS
) -> tuple[Settings, tuple[str, ...]]:
    """Settings with no more tokens than fit behind the prompt, and a line where they are fewer.

    PromptError, with both numbers, where nothing fits; default: tokens where nobody says how many.
    """
    length, mode = len(asked.ids), settings.certain_mode
    room = fitting_tokens(front.config, length, mode)
    if not room:
        least = (
            counted(1, "token")
            if mode != "diffusion"
            else f"a canvas of {front.config.canvas_length}"
        )
        raise PromptError(
            f"the prompt has {counted(length, 'token')}, and {least} behind it does not fit into "
            f"the context of {front.context_length:,}; shorten the prompt.",
            too_long=True,
        )
    wanted = settings.max_tokens
    limited = replace(settings, max_tokens=min(room, default if wanted is None else wanted))
    if wanted is None or wanted <= room:
        return limited, ()
    return limited, (
        f"the answer has {room:,} tokens at most, not {wanted:,}: the context of "
        f"{front.context_length:,} has no room for more behind a prompt of {length:,}.",
    )
