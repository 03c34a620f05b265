"""Answers: the text a reader sees, thoughts and tool calls, put together token by token.

- `<|channel>` to `<channel|>` named "thought" is thinking, finished or not. Any other channel is a
  part of the text, without the line that names it. A closing marker that nothing opened is dropped.
- A tool call leaves the text, or the thought it stands in; one that cannot be read stays, markers
  and all. One that the answer's end cuts is left out, since half an argument is none.
- Other control tokens leave no trace.
- The text is as generated, whitespace too, save in front of it where a thought came first.

Some text has to wait until it is known to be text: a channel for its name, a call for its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .call_text import QUOTED
from .stops import StoppedText
from .thoughts import Thoughts
from .tokenizer import Tokenizer
from .tools import CALL_CLOSING, CALL_OPENING, QUOTE, Tool, ToolCall, read_call, spelled

THOUGHT = "thought"  # the name of the channel that holds thinking
_THOUGHT_BEGINS = re.compile(rf"{THOUGHT}\b")


@dataclass(frozen=True)
class Answer:
    """An answer taken apart: the text a reader sees, and the calls a program has to act on.

    repairs: a line for each thing in which a call is not as it was written; cut_call: the answer
    ends inside a call, which is left out.
    """

    text: str
    thinking: str | None  # None where no thought was written, or only empty ones
    tool_calls: tuple[ToolCall, ...]
    repairs: tuple[str, ...] = ()
    cut_call: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """A line for each thing that should be said of its calls."""
        cut = "the answer ends inside a call of a tool, which is left out."
        return (*self.repairs, *((cut,) if self.cut_call else ()))


@dataclass
class _Channel:
    """An open channel, undecided until enough of its name is known."""

    kind: Literal["undecided", "thought", "text"] = "undecided"
    name: str = ""  # the name's beginning, while undecided
    held: list[tuple[int | None, str]] = field(default_factory=list)  # its tokens, meanwhile


@dataclass
class AnswerBuilder:
    """Takes the tokens of an answer, up to a stop text if there is one.

    raw: markers are written out, and neither thoughts nor calls are looked for. tools: those that
    the model was told of. late: the number of tokens before the last one that looked like a
    thought, and then were none.
    """

    tokenizer: Tokenizer
    stops: Sequence[str] = ()
    raw: bool = False
    tools: Sequence[Tool] = ()
    late: int = 0

    def __post_init__(self) -> None:
        id_of = self.tokenizer.id_of
        self.text = StoppedText(self.stops)
        self._decoder = self.tokenizer.decoder()
        self._opening, self._closing = id_of("<|channel>"), id_of("<channel|>")
        self._call_opening, self._call_closing = id_of(CALL_OPENING), id_of(CALL_CLOSING)
        self._quote = id_of(QUOTE)
        self._channel: _Channel | None = None
        self._line: str | None = None  # the line that names a channel of text, while it goes on
        self._call: list[str] | None = None  # the inside of an open call
        self._thought_first = False  # a thought came before the text
        self.thoughts = Thoughts()
        self.calls: list[ToolCall] = []
        self._repairs: list[str] = []
        self._cut_call = False

    def copy(self) -> AnswerBuilder:
        """A builder of its own that goes on from here."""
        other = replace(self)
        vars(other).update(vars(self))
        other.text, other._decoder = self.text.copy(), replace(self._decoder)
        if (channel := self._channel) is not None:
            other._channel = replace(channel, held=[*channel.held])
        other._call = None if self._call is None else [*self._call]
        other.thoughts, other.calls = self.thoughts.copy(), [*self.calls]
        other._repairs = [*self._repairs]
        return other

    def answer(self) -> Answer:
        """The answer, if no token follows; the builder is not changed."""
        done = self.copy()
        done.end(cut=True)
        calls, repairs = tuple(done.calls), tuple(done._repairs)
        return Answer(done.text.text, done.thoughts.text, calls, repairs, done._cut_call)

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
            rest = self._rest()
            self._end_channel(closed=token == self._closing)
            self._channel = _Channel() if token == self._opening else None
            return rest
        piece = self._decoder.add(token)
        self._put(token, piece)
        return piece

    def skip(self, token: int) -> str:
        """The text that a token behind the answer shows."""
        return self._decoder.add(token)

    def end(self, *, cut: bool) -> str:
        """Take note that no token follows; the text of a character that this cuts.

        cut: the answer has not come to its own end.
        """
        rest = self._rest()
        if cut and self._call is not None:
            self._call, self._cut_call = None, True
        self._end_channel(closed=False)
        return rest

    def _rest(self) -> str:
        """Put the text of a character that is cut where its bytes are."""
        if rest := self._decoder.end():
            self._put(None, rest)
        return rest

    def _put(self, token: int | None, piece: str) -> None:
        """A token's text into the part of the answer that it belongs to."""
        channel = self._channel
        if self.raw:
            self.text.add(piece + self._written(token))
        elif channel is None or channel.kind != "undecided":
            if self.thinking:
                self.thoughts.tokens += self._is_plain(token)
            self._say(token, piece)
        elif token is not None and token == self._call_opening:
            self._decide(channel, closed=True)
            self._say(token, piece)
        else:
            channel.name = (channel.name + piece).lstrip()
            channel.held.append((token, piece))
            self._decide(channel, closed=False)

    def _written(self, token: int | None) -> str:
        """A control token's own text, "" for any other."""
        if token is None or self._is_plain(token):
            return ""
        unit = self.tokenizer.unit(token)
        return unit.text if unit else ""

    def _is_plain(self, token: int | None) -> bool:
        """True for a token that is no control token."""
        return token is not None and token not in self.tokenizer.control_ids

    # --- channels

    def _decide(self, channel: _Channel, *, closed: bool) -> None:
        """Tell a thought from another channel as soon as the name does."""
        if not closed and THOUGHT.startswith(channel.name):
            return
        if named := _THOUGHT_BEGINS.match(channel.name):
            channel.kind = "thought"
            self.thoughts.begin()
            self.thoughts.add(channel.name[named.end() :])
            self.thoughts.tokens += sum(self._is_plain(token) for token, _ in channel.held)
            return
        channel.kind, self._line = "text", ""
        self.late = len(channel.held) - (not closed)
        for token, piece in channel.held:
            self._say(token, piece)

    def _end_channel(self, *, closed: bool) -> None:
        """End the open channel and the open call; closed: by its marker."""
        channel = self._channel
        if channel is not None and closed and channel.kind == "undecided":
            self._decide(channel, closed=True)
        self._end_call(closed=False)
        self._channel = None
        line, self._line = self._line, None
        if line is not None:
            self._add(line)
        if channel is None or channel.kind == "text":
            return
        if not self.text.begun:
            self.text.clear()
            self._thought_first = True

    # --- text and calls

    def _say(self, token: int | None, piece: str) -> None:
        """A token of the text or of a thought, or of a call in it."""
        marker = token is not None and token in (self._call_opening, self._call_closing)
        if self._call is None:
            self._show(piece)
        elif marker:
            self._call.append(piece)
        else:
            quote = token is not None and token == self._quote
            self._call.append(piece + (QUOTED if quote else self._written(token)))
        if marker:
            self._end_call(closed=token == self._call_closing)
            self._call = [] if token == self._call_opening else None

    def _end_call(self, *, closed: bool) -> None:
        """Keep a call that can be read; make text of another: losing it would be worse."""
        if self._call is None:
            return
        written, self._call = "".join(self._call), None
        if read := read_call(written, self.tools) if closed else None:
            self.calls.append(read.call)
            self._repairs += read.repairs
        else:
            self._show(CALL_OPENING + spelled(written) + (CALL_CLOSING if closed else ""))

    def _show(self, text: str) -> None:
        """Text of the thought that is open, or of the answer."""
        if self._channel is not None and self._channel.kind == "thought":
            self.thoughts.add(text)
        else:
            self._add_to_line(text)

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
