"""An answer as a completion: chunks of a stream, or one body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ....text.stops import StoppedText
from ...asked import Asked
from ...events import Answer, Done, Draft, Event, Failed, Text
from ...refusal import openai_body
from ..chat.encoder import END, FINISHES, usage_object
from ..dialect import COMMENT, Envelope, sse
from ..extras import done_fields, draft_object
from .request import Gap, TextCompletion


@dataclass
class CompletionEncoder:
    """A completion on its way; cut: what was said, up to a stop text; sent: characters of it."""

    envelope: Envelope
    asked: TextCompletion | Gap
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
                yield sse(openai_body(event.refusal))

    def ping(self) -> str:
        """A comment, which clients of server-sent events pass over."""
        return COMMENT

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The completion with its one choice."""
        assert answer.done is not None
        self.cut.add(answer.text)
        choice = _choice(self._echoed() + self.cut.text, self._finish(answer.done))
        told = {"usage": usage_object(answer.done.usage), **self._told(answer.done)}
        return {**self._head(), "choices": [choice], **told}

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
        return self._send([_choice(text, finish)], **more)

    def _send(self, choices: list[dict[str, Any]], **more: Any) -> str:
        """A chunk; usage is null in those before the last where the client asked for it."""
        usage = {"usage": None} if self.asked.usage else {}
        return sse({**self._head(), "choices": choices, **usage, **more})

    def _head(self) -> dict[str, Any]:
        key, created, model = self.envelope.key, self.envelope.created, self.envelope.model
        told = {"id": f"cmpl-{key}", "object": "text_completion", "created": created}
        return {**told, "model": model}


def encoder(envelope: Envelope, asked: Asked) -> CompletionEncoder:
    """The encoder of an answer to a question of this dialect."""
    assert isinstance(asked, TextCompletion | Gap)
    return CompletionEncoder(envelope, asked)


def _choice(text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
