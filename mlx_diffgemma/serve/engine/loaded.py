"""The engine of a checkpoint: questions prepared with its front, answered by its session.

The weights are loaded in the thread that asks for an answer, and may go away again; tokenizer,
config and facts stay, so that questions are prepared, counted and refused without them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import cast

import mlx.core as mx

from ...conversation.deciding import loaded_model
from ...conversation.dialogue import (
    Blank,
    Dialogue,
    Prepared,
    asked_as_it_is,
    asked_in_full,
    prepare_dialogue,
    prepare_template,
    prepare_text,
)
from ...conversation.front import Front
from ...conversation.prompt import Prompt
from ...conversation.session import Session
from ...conversation.times import Clock
from ...decide.decide import decide
from ...decide.decision import Decision
from ...decide.reader import LoadedModel
from ...decide.request import Request
from ...diffusion.reading import ModelReader
from ...errors import FitError, is_out_of_memory
from ..asked import Asked, Chat, Completion, Infill
from ..events import Event, Failed
from ..refusal import Refusal, refusal_of
from .answering import Answering, Look
from .engine import Cancellation, Cancelled, Counters, Facts, Stopping, fresh_key, going_on
from .kept import Conversations

COUNTED = 2  # contexts whose tokens are counted: clients ask to see that a prompt is too long
DECIDED_IN = "own"
"""The layout of decisions where a request names none: no question sees another one."""

MOST_TOKENS = 4096  # of an answer to messages; agents that write files seldom say how many


@dataclass(frozen=True)
class Ready:
    """A question that was prepared, and how it was asked."""

    question: Prepared
    asked: Asked


@dataclass(frozen=True)
class Weights:
    """All of an engine that goes away with the weights."""

    session: Session
    conversations: Conversations
    decider: LoadedModel

    @property
    def reader(self) -> ModelReader:
        """The reader of decisions."""
        return cast(ModelReader, self.decider.reader)

    def let_go(self) -> None:
        """Free all that is kept, for want of memory."""
        self.conversations.kept.clear()
        self.reader.kept.clear()
        mx.clear_cache()


def holding(session: Session, keep: int) -> Weights:
    """A session, and what is kept of its conversations and decisions, each beside the other."""
    conversations = Conversations(session, keep)
    decider = loaded_model(session, lambda: conversations.num_bytes)
    prefixes = cast(ModelReader, decider.reader).kept
    conversations.others, conversations.let_go = prefixes.num_bytes, prefixes.clear
    return Weights(session, conversations, decider)


@dataclass
class LoadedEngine:
    """An Engine with the checkpoint of `front`; read: its session, loaded anew.

    keep: conversations whose beginnings are kept, at most; key: of a call, letters and digits;
    each: tokens of mode ar between two looks whether anybody waits.
    """

    front: Front
    facts: Facts
    read: Callable[[], Session]
    keep: int = 4
    key: Callable[[], str] = fresh_key
    each: int = 1
    done: Counters = field(default_factory=Counters)
    clock: Clock = field(default_factory=Clock)
    _weights: Weights | None = None

    def __repr__(self) -> str:
        state = "not loaded" if self._weights is None else "loaded"
        return f"LoadedEngine({self.front.name!r}, {state})"

    @property
    def counters(self) -> Counters:
        """Sums of what was done so far, and what is kept now."""
        done = replace(self.done, memory_bytes=mx.get_active_memory())
        if (weights := self._weights) is None:
            return done
        kept = weights.conversations
        held = kept.num_bytes + weights.reader.kept.num_bytes()
        return replace(done, kept_conversations=len(kept.kept), kept_bytes=held)

    def prepare(self, asked: Asked) -> Ready:
        """The question checked, rendered and encoded; Refusal for what cannot be answered."""
        with self._refusing():
            return Ready(prepared(self.front, asked), asked)

    def count(self, asked: Asked) -> int:
        """The tokens of a question's prompt, also where they are more than the context holds.

        Refusal as `prepare`, and for texts of more than COUNTED times as many.
        """
        with self._refusing():
            return len(prompt_of(self._counting, asked).ids)

    @cached_property
    def _counting(self) -> Front:
        """The front that counts."""
        most = COUNTED * self.front.context_length
        return replace(self.front, tokenizer=replace(self.front.tokenizer, most=most))

    def answer(
        self, prepared: Ready, cancelled: Cancelled, stopping: Stopping = going_on
    ) -> Iterator[Event]:
        """The events of an answer; see Engine."""
        begun = False
        try:
            for event in self._answered(prepared, cancelled, stopping):
                yield event
                begun = True
        except Cancellation:
            raise
        except Exception as error:
            refusal = self._refusal_of(error)
            if is_out_of_memory(error) and self._weights is not None:
                self._weights.let_go()
            if not begun:
                raise refusal from refusal.__cause__
            yield Failed(refusal)

    def decide(self, request: Request, cancelled: Cancelled) -> Decision:
        """A decision; see Engine. Its questions are read apart unless the request says otherwise.

        Where memory lacks room, conversations are let go of, the oldest first. An error of MLX that
        says so is raised as it is.
        """
        weights, look = self._loaded(), looking(cancelled)
        look()
        layout = None if "layout" in request.given else DECIDED_IN
        reader = replace(weights.reader, look=look)
        while True:
            try:
                model = replace(weights.decider, reader=reader)
                return decide(request, model, request.options(layout=layout))
            except FitError as error:
                if not weights.conversations.drop_oldest():
                    refusal = self._refusal_of(error)
                    raise refusal from refusal.__cause__
            except Exception as error:
                if is_out_of_memory(error):
                    weights.let_go()
                raise

    def prepared_image(self, given: object) -> object:
        """An image of a decision as the network takes it; ImageError and CheckpointError."""
        return self._loaded().decider.texts.image(given)

    def load(self) -> None:
        """Load the weights where they are not there."""
        self._loaded()

    def unload(self) -> None:
        """Free the weights and all that was kept; the next question loads them."""
        self._weights = None
        gc.collect()
        mx.clear_cache()

    def _answered(
        self, prepared: Ready, cancelled: Cancelled, stopping: Stopping
    ) -> Iterator[Event]:
        look = looking(cancelled)
        look()
        weights, question = self._loaded(), prepared.question
        kept = weights.conversations
        taken = kept.take(question.checked.asked, question.checked.positions)
        answering = Answering(
            *(prepared.asked, look, stopping, self.key, taken.cached), each=self.each
        )
        try:
            if taken.beginning:
                answering.before = partial(kept.keep_beginning, taken)
            yield from answering.events(taken.session, question)
        finally:
            self._count(answering)

    def _count(self, answering: Answering) -> None:
        """Count an answer in, as far as it came."""
        done = self.done
        self.done = replace(
            done,
            steps=done.steps + answering.steps,
            tokens=done.tokens + answering.tokens,
            prompt_tokens=done.prompt_tokens + answering.prompt_tokens,
            encoded_tokens=done.encoded_tokens + answering.encoded,
        )

    def _loaded(self) -> Weights:
        """The weights; Refusal as of the server's own fault where they cannot be loaded."""
        if self._weights is None:
            try:
                session = self.read()
            except Cancellation:
                raise
            except Exception as error:
                said = "the model could not be loaded; the server's log says why."
                raise Refusal("internal", said) from error
            session.clock = self.clock  # the times that were seen stay
            self._weights = holding(session, self.keep)
            self.done = replace(self.done, loads=self.done.loads + 1)
        return self._weights

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Errors become refusals."""
        try:
            yield
        except Cancellation:
            raise
        except Exception as error:
            refusal = self._refusal_of(error)
            raise refusal from refusal.__cause__

    def _refusal_of(self, error: Exception) -> Refusal:
        """The refusal of an error, its cause, which tells nobody where the checkpoint lies."""
        private = {str(self.front.tokenizer.folder): self.front.name}
        if (refusal := refusal_of(error, private)) is not error:
            refusal.__cause__ = error
        return refusal


def looking(cancelled: Cancelled) -> Look:
    """A look at the flag; Cancellation where nobody waits any more."""

    def look() -> None:
        if cancelled():
            raise Cancellation

    return look


def prepared(front: Front, asked: Asked) -> Prepared:
    """A question prepared."""
    if isinstance(asked, Chat):
        return prepare_dialogue(front, dialogue_of(asked), asked.settings, MOST_TOKENS)
    if isinstance(asked, Completion):
        return prepare_text(front, asked.prompt, asked.settings)
    return prepare_template(front, blank_of(asked), asked.settings)


def prompt_of(front: Front, asked: Asked) -> Prompt:
    """The prompt of a question, whose form is not looked at."""
    if isinstance(asked, Chat):
        return asked_in_full(front, dialogue_of(asked))[1]
    if isinstance(asked, Completion):
        return asked_as_it_is(front, asked.prompt)
    return prepare_template(front, blank_of(asked), asked.settings).checked.asked


def dialogue_of(asked: Chat) -> Dialogue:
    """The messages of a question; no thought is asked for unless the client says so."""
    think = bool(asked.think)
    return Dialogue(asked.messages, asked.images, asked.image_tokens, asked.wanted, think)


def blank_of(asked: Infill) -> Blank:
    """The template of a question."""
    if asked.template is None:
        raise Refusal("invalid", "there is no template, expected a text with holes; give one.")
    return Blank(asked.template, asked.prompt, asked.images, asked.image_tokens)
