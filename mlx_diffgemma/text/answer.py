"""Answers: the text a reader sees, thoughts and tool calls, put together token by token.

- `<|channel>` to `<channel|>` named "thought" is thinking, finished or not. Any other channel is a
  part of the text, without the line that names it. A closing marker that nothing opened is dropped.
- A tool call leaves the text; a malformed or unfinished one stays in it, markers and all.
- Other control tokens leave no trace.
- The text is as generated, whitespace too, save in front of it where a thought came first.

Some text has to wait until it is known to be text: a channel for its name, a call for its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .stops import StoppedText
from .tokenizer import Tokenizer
from .tools import CALL_CLOSING, CALL_OPENING, ToolCall, parse_tool_call

THOUGHT = "thought"  # the name of the channel that holds thinking
_THOUGHT_BEGINS = re.compile(rf"{THOUGHT}\b")


@dataclass(frozen=True)
class Answer:
    """An answer taken apart: the text a reader sees, and the calls a program has to act on."""

    text: str
    thinking: str | None  # None where no thought was written, or only empty ones
    tool_calls: tuple[ToolCall, ...]


@dataclass
class _Channel:
    """An open channel, undecided until enough of its name is known."""

    kind: Literal["undecided", "thought", "text"] = "undecided"
    name: str = ""  # the name's beginning, while undecided
    held: list[tuple[int | None, str]] = field(default_factory=list)  # its tokens, meanwhile
    thought: list[str] = field(default_factory=list)  # the text of a thought


@dataclass
class AnswerBuilder:
    """Takes the tokens of an answer, up to a stop text if there is one.

    raw: markers are written out, and neither thoughts nor calls are looked for. late: the number of
    tokens before the last one that looked like a thought, and then were none.
    """

    tokenizer: Tokenizer
    stops: Sequence[str] = ()
    raw: bool = False
    late: int = 0

    def __post_init__(self) -> None:
        id_of = self.tokenizer.id_of
        self.text = StoppedText(self.stops)
        self._decoder = self.tokenizer.decoder()
        self._opening, self._closing = id_of("<|channel>"), id_of("<channel|>")
        self._call_opening, self._call_closing = id_of(CALL_OPENING), id_of(CALL_CLOSING)
        self._channel: _Channel | None = None
        self._line: str | None = None  # the line that names a channel of text, while it goes on
        self._call: list[str] | None = None  # the inside of an open call
        self._thought_first = False  # a thought came before the text
        self._thoughts: list[str] = []
        self._calls: list[ToolCall] = []

    def copy(self) -> AnswerBuilder:
        """A builder of its own that goes on from here."""
        other = replace(self)
        vars(other).update(vars(self))
        other.text, other._decoder = self.text.copy(), replace(self._decoder)
        if (channel := self._channel) is not None:
            held, thought = [*channel.held], [*channel.thought]
            other._channel = replace(channel, held=held, thought=thought)
        other._call = None if self._call is None else [*self._call]
        other._thoughts, other._calls = [*self._thoughts], [*self._calls]
        return other

    def answer(self) -> Answer:
        """The answer, if no token follows; the builder is not changed."""
        done = self.copy()
        done.end()
        thinking = "\n".join(filter(None, done._thoughts)) or None
        return Answer(done.text.text, thinking, tuple(done._calls))

    @property
    def certain(self) -> bool:
        """True where the text is not only blanks, which a thought would take away."""
        return self.raw or self.text.begun

    @property
    def thinking(self) -> bool:
        """True inside a thought, and inside a channel that may become one."""
        return self._channel is not None and self._channel.kind != "text"

    def take(self, token: int) -> str:
        """The text that the next token shows, be it of the answer or of a thought."""
        self.late = 0
        if not self.raw and token in (self._opening, self._closing):
            rest = self._cut()
            self._end_channel(closed=token == self._closing)
            self._channel = _Channel() if token == self._opening else None
            return rest
        piece = self._decoder.add(token)
        self._put(token, piece)
        return piece

    def skip(self, token: int) -> str:
        """The text that a token behind the answer shows."""
        return self._decoder.add(token)

    def end(self) -> str:
        """Take note that no token follows; the text of a character that this cuts."""
        rest = self._cut()
        self._end_channel(closed=False)
        return rest

    def _cut(self) -> str:
        """Put the text of a character that is cut where its bytes are."""
        if rest := self._decoder.end():
            self._put(None, rest)
        return rest

    def _put(self, token: int | None, piece: str) -> None:
        """A token's text into the part of the answer that it belongs to."""
        if self.raw:
            self.text.add(piece + self._written(token))
        elif (channel := self._channel) is None or channel.kind == "text":
            self._say(token, piece)
        elif channel.kind == "thought":
            channel.thought.append(piece)
        else:
            channel.name = (channel.name + piece).lstrip()
            channel.held.append((token, piece))
            self._decide(channel, closed=False)

    def _written(self, token: int | None) -> str:
        """A control token's own text, "" for any other."""
        if token is None or token not in self.tokenizer.control_ids:
            return ""
        unit = self.tokenizer.unit(token)
        return unit.text if unit else ""

    # --- channels

    def _decide(self, channel: _Channel, *, closed: bool) -> None:
        """Tell a thought from another channel as soon as the name does."""
        if not closed and THOUGHT.startswith(channel.name):
            return
        if named := _THOUGHT_BEGINS.match(channel.name):
            channel.kind, channel.thought = "thought", [channel.name[named.end() :]]
            return
        channel.kind, self._line = "text", ""
        self.late = len(channel.held) - (not closed)
        for token, piece in channel.held:
            self._say(token, piece)

    def _end_channel(self, *, closed: bool) -> None:
        """End the open channel and the open call; closed: by its marker."""
        channel, self._channel = self._channel, None
        if channel is not None and closed and channel.kind == "undecided":
            self._decide(channel, closed=True)
        self._end_call(closed=False)
        line, self._line = self._line, None
        if line is not None:
            self._add(line)
        if channel is None or channel.kind == "text":
            return
        self._thoughts.append("".join(channel.thought).strip())
        if not self.text.begun:
            self.text.clear()
            self._thought_first = True

    # --- text and calls

    def _say(self, token: int | None, piece: str) -> None:
        """A token of the text, or of a call in it."""
        marker = token is not None and token in (self._call_opening, self._call_closing)
        if self._call is not None:
            self._call.append(piece if marker else piece + self._written(token))
        else:
            self._add_to_line(piece)
        if marker:
            self._end_call(closed=token == self._call_closing)
            self._call = [] if token == self._call_opening else None

    def _end_call(self, *, closed: bool) -> None:
        """Keep a well-formed call; make text of another: losing it would be worse than markers."""
        if self._call is None:
            return
        content, self._call = "".join(self._call), None
        call = parse_tool_call(content) if closed else None
        if call is not None:
            self._calls.append(call)
        else:
            self._add_to_line(CALL_OPENING + content + (CALL_CLOSING if closed else ""))

    def _add_to_line(self, text: str) -> None:
        """Text, without the line that names its channel."""
        if self._line is None:
            self._add(text)
            return
        self._line += text
        _, newline, behind = self._line.partition("\n")
        if newline:
            self._line = None
            self._add(behind)

    def _add(self, text: str) -> None:
        if self._thought_first and not self.text.begun:
            text = text.lstrip()
        self.text.add(text)
