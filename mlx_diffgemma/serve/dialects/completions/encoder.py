"""An answer as a completion: chunks of a stream, or one body.

Requests for a gap in Mistral's form want the objects of a chat, with the completion's text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ....text.stops import StoppedText
from ...asked import Asked
from ...events import Answer, Done, Draft, Event, Failed, Text
from ...families import OPENAI
from ..dialect import COMMENT, Envelope, sse
from ..extras import done_fields, draft_object
from ..openai import END, FINISHES, usage_object
from .request import Gap, TextCompletion

Choice = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """The objects that clients expect: the names of chunk and body, and the choice of each.

    comments: a comment may stand between chunks. Continue reads nothing behind `: ping` until more
    has come, and so loses the end of a stream that comes at once with one.
    """

    prefix: str
    chunk: str
    body: str
    choice_of_chunk: Callable[[str, str | None], Choice]
    choice_of_body: Callable[[str, str | None], Choice]
    comments: bool = True


@dataclass
class CompletionEncoder:
    """A completion on its way; cut: what was said, up to a stop text; sent: characters of it."""

    envelope: Envelope
    asked: TextCompletion | Gap
    objects: Objects
    cut: StoppedText = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.cut = StoppedText(self.asked.cut if isinstance(self.asked, Gap) else ())

    def opening(self) -> Iterator[str]:
        """A chunk at once: the prompt where it is echoed, else nothing."""
        yield self._chunk(self._echoed())

    def encode(self, event: Event) -> Iterator[str]:
        """The chunks that tell of an event."""
        match event:
            case Text():
                self.cut.add(event.text)
                yield from self._more(self.cut.stays)
            case Draft() if self.asked.drafts:
                yield self._send([], x_draft=draft_object(event))
            case Done():
                yield from self._end(event)
            case Failed():
                yield sse(OPENAI.body(event.refusal))

    def ping(self) -> str:
        """A comment, or a chunk without text."""
        comments = self.objects.comments and self.envelope.comments
        return COMMENT if comments else self._chunk("")

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The completion with its one choice."""
        assert answer.done is not None
        self.cut.add(answer.text)
        text = self._echoed() + self.cut.text
        choice = self.objects.choice_of_body(text, self._finish(answer.done))
        told = {"usage": usage_object(answer.done.usage), **self._told(answer.done)}
        return {**self._head(self.objects.body), "choices": [choice], **told}

    def _end(self, done: Done) -> Iterator[str]:
        yield from self._more(len(self.cut.text))
        yield self._chunk("", self._finish(done), **self._told(done))
        if self.asked.usage:
            yield self._send([], usage=usage_object(done.usage))
        yield END

    def _more(self, end: int) -> Iterator[str]:
        """The text up to a place, as far as it was not sent."""
        if text := self.cut.between(self.sent, end):
            self.sent = end
            yield self._chunk(text)

    def _echoed(self) -> str:
        asked = self.asked
        return asked.prompt if isinstance(asked, TextCompletion) and asked.echo else ""

    def _finish(self, done: Done) -> str:
        """The reason of the end: length where a gap is full, since its text may want to go on."""
        if self.cut.end is not None:
            return "stop"
        asked = self.asked
        if isinstance(asked, Gap) and asked.hole_only and asked.template is not None:
            full = done.usage.completion >= sum(asked.template.lengths)
            return "length" if full else FINISHES[done.finish]
        return FINISHES[done.finish]

    def _told(self, done: Done) -> dict[str, Any]:
        """The fields of our own; of a hole that was cut its text up to there."""
        if self.cut.end is None:
            return done_fields(done)
        whole = "".join(self.cut.chunks)
        stop = next(text for text in self.cut.stops if whole.startswith(text, self.cut.end))
        return done_fields(replace(done, stop=stop, holes=(self.cut.text,)))

    def _chunk(self, text: str, finish: str | None = None, **more: Any) -> str:
        return self._send([self.objects.choice_of_chunk(text, finish)], **more)

    def _send(self, choices: list[Choice], **more: Any) -> str:
        """A chunk; usage is null in those before the last where the client asked for it."""
        usage = {"usage": None} if self.asked.usage else {}
        return sse({**self._head(self.objects.chunk), "choices": choices, **usage, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        key, created, model = self.envelope.key, self.envelope.created, self.envelope.model
        ident = f"{self.objects.prefix}-{key}"
        return {"id": ident, "object": kind, "created": created, "model": model}


def encoder(envelope: Envelope, asked: Asked) -> CompletionEncoder:
    """The encoder of an answer to a completion's request."""
    assert isinstance(asked, TextCompletion | Gap)
    return CompletionEncoder(envelope, asked, TEXT)


def fim_encoder(envelope: Envelope, asked: Asked) -> CompletionEncoder:
    """The encoder of an answer to the same request, for clients of Mistral's API."""
    assert isinstance(asked, TextCompletion | Gap)
    return CompletionEncoder(envelope, asked, CHAT)


def _text(text: str, finish: str | None) -> Choice:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def _delta(text: str, finish: str | None) -> Choice:
    """A chunk's; clients read the content of every chunk, so that the last has an empty one."""
    delta = {"role": "assistant", "content": text}
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _message(text: str, finish: str | None) -> Choice:
    message = {"role": "assistant", "content": text, "tool_calls": None}
    return {"index": 0, "message": message, "finish_reason": finish}


TEXT = Objects("cmpl", "text_completion", "text_completion", _text, _text)
CHAT = Objects("fim", "chat.completion.chunk", "chat.completion", _delta, _message, comments=False)
