"""An answer as a chat completion: chunks of a stream, or one body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...asked import Asked
from ...events import Answer, Call, Done, Draft, Event, Failed, Text, Thought
from ...families import OPENAI
from ..dialect import COMMENT, Envelope, compact, sse
from ..extras import done_fields, draft_object
from ..openai import END, FINISHES, usage_object
from .request import ChatCompletion


@dataclass
class ChatEncoder:
    """A chat completion on its way; calls: those sent."""

    envelope: Envelope
    asked: ChatCompletion
    calls: int = 0

    def opening(self) -> Iterator[str]:
        """The role, at once: clients take an answer without a chunk for a dead one."""
        yield self._delta({"role": "assistant", "content": ""})

    def encode(self, event: Event) -> Iterator[str]:
        """The chunks that tell of an event."""
        match event:
            case Text(text=str(text)) if text:
                yield self._delta({"content": text})
            case Thought(text=str(text)) if text:
                yield self._delta({self.asked.reasoning: text})
            case Call():
                yield self._delta({"tool_calls": [{"index": self.calls, **call_object(event)}]})
                self.calls += 1
            case Draft() if self.asked.drafts:
                yield self._chunk([], x_draft=draft_object(event))
            case Done():
                yield from self._end(event)
            case Failed():
                yield sse(OPENAI.body(event.refusal))

    def ping(self) -> str:
        """A comment, which clients of server-sent events pass over, or a chunk without content."""
        return COMMENT if self.envelope.comments else self._delta({})

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The chat completion with its one choice."""
        assert answer.done is not None
        done = answer.done
        choice = {"message": self._message(answer), **_finished(FINISHES[done.finish])}
        told = {"usage": usage_object(done.usage), **done_fields(done)}
        return {**self._head("chat.completion"), "choices": [{"index": 0, **choice}], **told}

    def _end(self, done: Done) -> Iterator[str]:
        yield self._delta({}, FINISHES[done.finish], **done_fields(done))
        if self.asked.usage:
            yield self._chunk([], usage=usage_object(done.usage))
        yield END

    def _message(self, answer: Answer) -> dict[str, Any]:
        """The message of a whole answer; beside calls alone its content is null."""
        content = answer.text or (None if answer.calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if answer.thought:
            message[self.asked.reasoning] = answer.thought
        if answer.calls:
            message["tool_calls"] = [call_object(call) for call in answer.calls]
        return message

    def _delta(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        return self._chunk([{"index": 0, "delta": delta, **_finished(finish)}], **more)

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> str:
        """A chunk; usage is null in those before the last where the client asked for it."""
        usage = {"usage": None} if self.asked.usage else {}
        head = self._head("chat.completion.chunk")
        return sse({**head, "choices": choices, **usage, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        key, created, model = self.envelope.key, self.envelope.created, self.envelope.model
        return {"id": f"chatcmpl-{key}", "object": kind, "created": created, "model": model}


def encoder(envelope: Envelope, asked: Asked) -> ChatEncoder:
    """The encoder of an answer to a question of this dialect."""
    assert isinstance(asked, ChatCompletion)
    return ChatEncoder(envelope, asked)


def call_object(call: Call) -> dict[str, Any]:
    """A call of a tool, whole, its arguments as JSON."""
    function = {"name": call.name, "arguments": compact(call.arguments)}
    return {"id": f"call_{call.key}", "type": "function", "function": function}


def _finished(finish: str | None) -> dict[str, Any]:
    return {"logprobs": None, "finish_reason": finish}
