"""One conversation: what was asked and answered, its live cache, and the one turn that uses both.

The keys and values of what has been encoded are kept. A further question goes back to the longest
token prefix that old and new prompt share, and encodes exactly the rest.

A turn may stand in place of the last question and its answer, or go on with an answer that was cut:
what it has finished then takes their place.

A new turn takes the conversation over, from whatever thread. The one before it ends between two of
its steps: what it has finished enters the history, and going on with it is a TurnError. Steps hold
`_room`; whoever wants to take over waits for it behind `_door`, which every step passes, so that a
thread that goes from step to step cannot keep others out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from threading import RLock, get_ident
from typing import Any, Protocol, TypeVar
from weakref import ReferenceType, ref

import mlx.core as mx

from ..errors import PromptError, TurnError, brief
from ..images.pixels import Pixels
from ..images.video import Clip
from ..model.images import ImageRun
from ..model.prefix import Prefix
from ..model.text import Model
from ..share.guard import is_lost
from ..text.chat import Message
from .form import AnswerForm, Tool
from .prompt import Prompt

R = TypeVar("R")
Lock = AbstractContextManager[Any]


@dataclass(frozen=True)
class Cut:
    """An answer that can go on: its question, and the prompt behind which its next token comes.

    begun: the ids of the answer so far, with which the prompt ends; form: that it is held to;
    tools: those that the model was told of.
    """

    question: Message
    prompt: Prompt
    begun: tuple[int, ...]
    thinking: bool
    form: AnswerForm | None = None
    tools: Sequence[Tool] = ()


class RunningTurn(Protocol):
    """A turn as the conversation sees it, which is its own until it has ended.

    ended: why it cannot go on, None while it can; replaced: the question whose place it takes.
    """

    ended: str | None
    replaced: Message | None

    def said(self) -> Sequence[Message]:
        """The messages that later questions see of it."""

    def cut(self) -> Cut | None:
        """The answer as another turn can go on with it; None where it has come to its end."""


T = TypeVar("T", bound=RunningTurn)


@dataclass
class Conversation:
    """Questions and answers in turn, the system text over them, and their encoded prefix.

    cut: the last answer, where it ended for want of tokens or was interrupted.
    """

    system: str | None = None
    history: list[Message] = field(default_factory=list)
    prefix: Prefix | None = None
    cut: Cut | None = None
    # The turn that is not over yet; weak, so that one that nobody iterates holds no model.
    _turn: ReferenceType[RunningTurn] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _door: Lock = field(default_factory=RLock, init=False, repr=False, compare=False)
    _room: Lock = field(default_factory=RLock, init=False, repr=False, compare=False)
    _stepping: int | None = field(default=None, init=False, repr=False, compare=False)  # a thread

    def begin(self, make: Callable[[list[Message]], T]) -> T:
        """The turn that `make` checks behind the messages it is given; it takes over from here on.

        After an error of `make` all is as it was, a turn that is running included.
        """
        self._require_no_step()
        with self._door, self._room:
            running = self._current()
            turn = make(self._with(running))
            self._end("another question was asked")
            self._turn = ref(turn)
            return turn

    def step(self, turn: RunningTurn, advance: Callable[[], R]) -> R:
        """The result of `advance`, which computes with the prefix; TurnError where it is another's.

        Arrays are submitted, since MLX computes what is pending in the thread that made it alone.
        """
        self._require(turn)
        with self._door:
            pass
        with self._room:
            self._require(turn)
            try:
                self._stepping = get_ident()
                result = advance()
                mx.async_eval(self._arrays())
                return result
            except BaseException as error:
                self._save_prefix(error)
                raise
            finally:
                self._stepping = None

    def leave(self, turn: RunningTurn) -> None:
        """End `turn` if it is not over: the one place where question and answer are remembered."""
        if not turn.ended:  # else no lock: an abandoned one is collected in any thread, at any time
            with self._room:
                if self._current() is turn:
                    self._end("it is over")

    def reset(self) -> None:
        """Forgets what was said and its cache; the system text stays."""
        self._require_no_step()
        with self._door, self._room:
            self._end("the conversation was reset")
            self.history.clear()
            self.prefix = self.cut = None

    def undo(self, shared: Callable[[Prefix, list[Message]], int]) -> Message:
        """The last question, taken back with its answer and what is encoded of both.

        shared: the positions of the prefix that the messages before them need. PromptError where
        nothing was asked.
        """
        self._require_no_step()
        with self._door, self._room:
            question = last_question(self._with(self._current()))
            self._end("its question was taken back")
            del self.history[-2:]
            self.cut = None
            if self.prefix is not None:
                self.prefix.roll_back(shared(self.prefix, self.history) if self.history else 0)
            return question

    def require_cut(self) -> Cut:
        """The last answer, which can go on; TurnError where none can, as it came to its end."""
        with self._room:
            running = self._current()
            cut = running.cut() if running and running.said() else self.cut
            history = self._with(running)
        if cut is None or not history or history[-2] is not cut.question:
            raise TurnError(
                "there is no cut answer, expected the last one to have ended for want of tokens or "
                "been interrupted, in this session and with nothing taken back since; ask a "
                "question."
            )
        return cut

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text."""
        for number, message in enumerate(messages):
            expected = ("user", "assistant")[number % 2]
            if message.role != expected:
                raise PromptError(
                    f"message {number + 1} of the conversation is the {message.role}'s, expected "
                    f"the {expected}'s; questions and answers take turns."
                )
            _require_media(number + 1, message)
        if len(messages) % 2:
            raise PromptError(
                "the conversation ends with a question; leave it out, and ask it again."
            )
        messages = list(messages)  # they may be the history itself
        self._require_no_step()
        with self._door, self._room:
            self._end("another conversation was restored")
            self.history[:] = messages
            self.system = system or None
            self.cut = None

    def rewind(
        self, model: Model, tokens: Sequence[int], images: Sequence[ImageRun] = ()
    ) -> Prefix:
        """The prefix, gone back to what it shares with a prompt; to be called in a step."""
        if self.prefix is None or not self.prefix.is_of(model):
            self.prefix = model.new_prefix()
        self.prefix.roll_back(self.prefix.shared(tokens, images))
        return self.prefix

    def _end(self, reason: str) -> None:
        """End the turn that is not over, if there is one; to be called in the room."""
        if (turn := self._current()) is None:
            return
        history = self._with(turn)
        cut = turn.cut() if turn.said() else self.cut
        # No call comes between these lines, so that Ctrl-C cannot part them.
        turn.ended = reason
        self._turn = None
        self.cut = cut
        self.history[:] = history

    def _with(self, turn: RunningTurn | None) -> list[Message]:
        """The history with what a turn says, if there is one and it says anything.

        One that replaces a question does so while that is still the last one.
        """
        said = turn.said() if turn else ()
        if turn is None or not said:
            return [*self.history]
        replaced = len(self.history) > 1 and self.history[-2] is turn.replaced
        return [*(self.history[:-2] if replaced else self.history), *said]

    def _current(self) -> RunningTurn | None:
        """The turn that is not over yet."""
        return self._turn() if self._turn else None

    def _require(self, turn: RunningTurn) -> None:
        if self._current() is not turn:
            reason = turn.ended or "it never began"
            raise TurnError(
                f"this answer cannot go on: {reason}, and a session has one answer at a time; "
                "ask again, or load another session for it."
            )

    def _require_no_step(self) -> None:
        """TurnError inside a step of this very thread, whose own keys would be taken from it."""
        if self._stepping == get_ident():
            raise TurnError(
                "the session was asked for something new inside a step of its answer, expected "
                "between two frames; leave it to the code that takes the frames, not to progress "
                "or noise."
            )

    def _arrays(self) -> list[mx.array]:
        return [] if self.prefix is None else self.prefix.arrays()

    def _save_prefix(self, error: BaseException) -> None:
        """Compute what a broken step has left pending; give the prefix up where that fails, too.

        Where another Mac is lost it is not tried: what is pending may wait for it for ever.
        """
        pending, prefix, self.prefix = self._arrays(), self.prefix, None
        if is_lost(error):
            return
        with suppress(Exception):
            mx.eval(pending)
            self.prefix = prefix


def last_question(history: Sequence[Message]) -> Message:
    """The last question of a conversation; PromptError where nothing was asked."""
    if len(history) < 2:
        raise PromptError("nothing was asked yet, expected a question with its answer; ask one.")
    return history[-2]


def _require_media(number: int, message: Message) -> None:
    """PromptError where the media of a message are not those of a question, prepared."""
    strange = [medium for medium in message.media if not isinstance(medium, Pixels | Clip)]
    if strange or (message.media and message.role != "user"):
        got = brief(strange[0]) if strange else f"an image, and is the {message.role}'s"
        raise PromptError(
            f"message {number} of the conversation holds {got}, expected Pixels or a Clip in a "
            "question; prepare_image and prepare_video make them."
        )
