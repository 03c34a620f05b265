"""An answer in OpenAI's Responses API: items of output, each opened, filled and closed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...asked import Asked
from ...events import Answer, Call, Done, Draft, Event, Failed, Text, Thought
from ..dialect import COMMENT, Envelope, compact, sse
from ..extras import draft_object
from .items import (
    Item,
    Status,
    call_item,
    ended,
    failed,
    item_id,
    items_of,
    message_item,
    output_text,
    reasoning_item,
    response_object,
    summary_part,
)


@dataclass
class ResponsesEncoder:
    """A response on its way.

    sequence: the number of the next event; output: the items that are closed. open: the kind of the
    item that is not, ident: its id, said: its text so far.
    """

    envelope: Envelope
    asked: Asked
    sequence: int = 0
    output: list[Item] = field(default_factory=list)
    open: type[Text] | type[Thought] | None = None
    ident: str = ""
    said: str = ""

    def opening(self) -> Iterator[str]:
        """The response before anything of it is there."""
        response = response_object(self.envelope, self.asked)
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def encode(self, event: Event) -> Iterator[str]:
        """The events that tell of one of ours."""
        if isinstance(event, Text | Thought) and event.text:
            yield from self._more(event)
        elif isinstance(event, Call):
            yield from self._call(event)
        elif isinstance(event, Draft) and self.asked.drafts:
            yield self._event("x_draft", x_draft=draft_object(event))
        elif isinstance(event, Done):
            yield from self._end(event)
        elif isinstance(event, Failed):
            yield from self._close("incomplete")
            response = response_object(self.envelope, self.asked)
            told = failed(response, self.output, event.refusal)
            yield self._event("response.failed", response=told)

    def ping(self) -> str:
        """A comment, or an event of a type that no client knows: the API has none for it."""
        return COMMENT if self.envelope.comments else self._event("keepalive")

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The response with all of its items."""
        assert answer.done is not None
        response = response_object(self.envelope, self.asked)
        return ended(response, items_of(answer, self.envelope), answer.done)

    def _event(self, kind: str, **fields: Any) -> str:
        numbered = {"type": kind, "sequence_number": self.sequence, **fields}
        self.sequence += 1
        return sse(numbered, kind)

    def _of_item(self, kind: str, **fields: Any) -> str:
        """An event of the item that is open."""
        at = {"item_id": self.ident, "output_index": len(self.output)}
        return self._event(f"response.{kind}", **at, **fields)

    def _of_part(self, kind: str, **fields: Any) -> str:
        """An event of the only part of the item that is open."""
        index = "content_index" if self.open is Text else "summary_index"
        return self._of_item(kind, **{index: 0}, **fields)

    def _added(self, item: Item) -> str:
        at = {"output_index": len(self.output)}
        return self._event("response.output_item.added", **at, item=item)

    def _done(self, item: Item) -> str:
        at = {"output_index": len(self.output)}
        self.output.append(item)
        return self._event("response.output_item.done", **at, item=item)

    def _more(self, event: Text | Thought) -> Iterator[str]:
        if self.open is not type(event):
            yield from self._close("completed")
            yield from self._open(type(event))
        self.said += event.text
        if isinstance(event, Text):
            yield self._of_part("output_text.delta", delta=event.text, logprobs=[])
        else:
            yield self._of_part("reasoning_summary_text.delta", delta=event.text)

    def _open(self, kind: type[Text] | type[Thought]) -> Iterator[str]:
        prefix = "msg" if kind is Text else "rs"
        self.open, self.said = kind, ""
        self.ident = item_id(prefix, self.envelope, len(self.output))
        if kind is Text:
            yield self._added(message_item(self.ident, [], "in_progress"))
            yield self._of_part("content_part.added", part=output_text(""))
        else:
            yield self._added(reasoning_item(self.ident, "", "in_progress"))
            yield self._of_part("reasoning_summary_part.added", part=summary_part(""))

    def _close(self, status: Status) -> Iterator[str]:
        if self.open is Text:
            yield self._of_part("output_text.done", text=self.said, logprobs=[])
            yield self._of_part("content_part.done", part=output_text(self.said))
            yield self._done(message_item(self.ident, [output_text(self.said)], status))
        elif self.open is Thought:
            yield self._of_part("reasoning_summary_text.done", text=self.said)
            yield self._of_part("reasoning_summary_part.done", part=summary_part(self.said))
            yield self._done(reasoning_item(self.ident, self.said, status))
        self.open = None

    def _call(self, call: Call) -> Iterator[str]:
        yield from self._close("completed")
        arguments = compact(call.arguments)
        item = call_item(call, arguments, "completed")
        self.ident = item["id"]
        yield self._added(call_item(call, "", "in_progress"))
        yield self._of_item("function_call_arguments.delta", delta=arguments)
        named = {"name": call.name, "arguments": arguments}
        yield self._of_item("function_call_arguments.done", **named)
        yield self._done(item)

    def _end(self, done: Done) -> Iterator[str]:
        cut = done.finish == "length"
        yield from self._close("incomplete" if cut else "completed")
        response = ended(response_object(self.envelope, self.asked), self.output, done)
        yield self._event("response.incomplete" if cut else "response.completed", response=response)
