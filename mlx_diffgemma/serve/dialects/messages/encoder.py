"""An answer in Anthropic's Messages API: blocks of text, thought and calls, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...asked import Asked
from ...events import Answer, Begun, Call, Done, Draft, Event, Failed, Finish, Text, Thought, Usage
from ...families import ANTHROPIC
from ..dialect import Envelope, compact, sse
from ..extras import done_fields, draft_object

STOP_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "stop_text": "stop_sequence",
}

SIGNATURE = "mlx-diffgemma"
"""A thought's signature, which nobody checks; clients drop thoughts without one."""


@dataclass
class MessagesEncoder:
    """A message on its way; block: the type of the one that is open, index: its place."""

    envelope: Envelope
    asked: Asked
    begun: bool = False
    block: str | None = None
    index: int = -1

    def opening(self) -> Iterator[str]:
        """A ping: the message starts with its tokens of input, once they are counted."""
        yield self.ping()

    def encode(self, event: Event) -> Iterator[str]:
        """The events that tell of one of ours."""
        if isinstance(event, Failed):
            yield sse(ANTHROPIC.body(event.refusal), "error")
            return
        if isinstance(event, Begun) or not self.begun:
            yield from self._begin(event)
        if isinstance(event, Text) and event.text:
            yield from self._more("text", "text_delta", event.text)
        elif isinstance(event, Thought) and event.text:
            yield from self._more("thinking", "thinking_delta", event.text)
        elif isinstance(event, Call):
            yield from self._call(event)
        elif isinstance(event, Draft):
            yield from self._draft(event)
        elif isinstance(event, Done):
            yield from self._end(event)

    def ping(self) -> str:
        """An event of the API's own that every client passes over."""
        return _event("ping")

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The message with all of its blocks."""
        assert answer.done is not None
        done = answer.done
        body = {**self._message(_usage_of(done.usage)), **_stopped(done), **done_fields(done)}
        return {**body, "content": list(_blocks(answer))}

    def _begin(self, event: Event) -> Iterator[str]:
        self.begun = True
        prompt, cached = 0, 0
        if isinstance(event, Begun):
            prompt, cached = event.prompt_tokens, event.cached_tokens
        usage = _usage_of(Usage(prompt=prompt, completion=0, cached=cached))
        yield _event("message_start", message=self._message(usage))

    def _message(self, usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"msg_{self.envelope.key}",
            "type": "message",
            "role": "assistant",
            "model": self.envelope.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def _more(self, block: str, delta: str, text: str) -> Iterator[str]:
        if self.block != block:
            empty = {block: "", "signature": ""} if block == "thinking" else {block: ""}
            yield from self._open(block, empty)
        yield self._delta(delta, **{block: text})

    def _call(self, call: Call) -> Iterator[str]:
        yield from self._open("tool_use", {"id": _call_id(call), "name": call.name, "input": {}})
        yield self._delta("input_json_delta", partial_json=compact(call.arguments))
        yield from self._close()

    def _open(self, block: str, fields: dict[str, Any]) -> Iterator[str]:
        yield from self._close()
        self.block, self.index = block, self.index + 1
        started = {"type": block, **fields}
        yield _event("content_block_start", index=self.index, content_block=started)

    def _delta(self, delta: str, **fields: str) -> str:
        return _event("content_block_delta", index=self.index, delta={"type": delta, **fields})

    def _close(self) -> Iterator[str]:
        if self.block is None:
            return
        if self.block == "thinking":
            yield self._delta("signature_delta", signature=SIGNATURE)
        self.block = None
        yield _event("content_block_stop", index=self.index)

    def _draft(self, draft: Draft) -> Iterator[str]:
        if self.asked.drafts:
            yield _event("x_draft", x_draft=draft_object(draft))

    def _end(self, done: Done) -> Iterator[str]:
        yield from self._close()
        ended = {"delta": _stopped(done), "usage": _usage_of(done.usage)}
        yield _event("message_delta", **ended, **done_fields(done))
        yield _event("message_stop")


def _event(kind: str, **fields: Any) -> str:
    return sse({"type": kind, **fields}, kind)


def _stopped(done: Done) -> dict[str, Any]:
    return {"stop_reason": STOP_REASONS[done.finish], "stop_sequence": done.stop}


def _usage_of(usage: Usage) -> dict[str, Any]:
    """Tokens as the API counts them: those of input are the ones that had to be encoded."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.thought},
    }


def _blocks(answer: Answer) -> Iterator[dict[str, Any]]:
    if answer.thought:
        yield {"type": "thinking", "thinking": answer.thought, "signature": SIGNATURE}
    if answer.text:
        yield {"type": "text", "text": answer.text}
    for call in answer.calls:
        named = {"id": _call_id(call), "name": call.name}
        yield {"type": "tool_use", **named, "input": call.arguments}


def _call_id(call: Call) -> str:
    return f"toolu_{call.key}"
