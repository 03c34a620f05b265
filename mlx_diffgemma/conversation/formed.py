"""An answer that is held to a form, read as it comes: what is certain of it stays."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from copy import copy, deepcopy
from dataclasses import replace

from ..constrain.form import BLANKS, FENCE, FENCED, stripped
from ..text.answer import Answer
from ..text.reader import AnswerReader
from ..text.tokenizer import Tokenizer
from ..text.tools import CALL_OPENING, Tool, ToolCall
from .form import AnswerForm


class FormReader(AnswerReader):
    """Reads an answer with a form.

    The thought comes first, whatever its channel is called; behind it the text is what its tokens
    write, and calls are calls. Parts are those of any answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        form: AnswerForm,
        stop_ids: Collection[int],
        tools: Sequence[Tool] = (),
    ) -> None:
        super().__init__(tokenizer, stop_ids, tools=tools)
        self.form = form
        self._head = AnswerReader(tokenizer)
        self._calls = AnswerReader(tokenizer, stop_ids, tools=tools)
        self._text = JsonText() if form.form.kind == "schema" else FormText()
        self._calling = tokenizer.id_of(CALL_OPENING) if form.form.calls else None
        self._in_head = self._called = False
        self._thought = ""  # that was handed out
        self._of_thought = self._of_thought_begun = 0  # tokens
        self._ended = False

    def begin(self, ids: Sequence[int]) -> None:
        """Take the beginning of an answer whose text was handed out before."""
        super().begin(ids)
        self.fresh()
        self._of_thought_begun = self._of_thought

    def copy(self) -> FormReader:
        """A reader of its own that goes on from here."""
        other = copy(self)
        other._builder = self._builder.copy()
        other._pieces, other._roles = [*self._pieces], [*self._roles]
        other._head, other._calls = self._head.copy(), self._calls.copy()
        other._text = self._text.copy()
        return other

    def answer(self) -> Answer:
        """The answer, if nothing follows what was read."""
        done = self.copy()
        done.end()
        calls, thinking = done._calls.answer(), self._thought + done.fresh_thought()
        text = calls.text if self._called else done._text.text
        return replace(calls, text=text, thinking=thinking or None)

    def fresh(self) -> str:
        """The text that came since the last call and stays, whatever follows."""
        return self._calls.fresh() if self._called else self._text.fresh()

    def fresh_thought(self) -> str:
        """The text of the thought that came since the last call."""
        fresh = self._head.fresh_thought()
        if not self._in_head and not (self._thought or fresh):
            fresh = self._head.answer().text.strip()  # its channel has another name
        self._thought += fresh
        return fresh

    def fresh_calls(self) -> tuple[ToolCall, ...]:
        """The calls that came since the last call, each whole."""
        return self._calls.fresh_calls()

    @property
    def thought_tokens(self) -> int:
        """The number of tokens in the thought's channel, its name among them, its markers not."""
        return self._of_thought - self._of_thought_begun

    def _take(self, ids: Sequence[int]) -> None:
        for token in ids:
            self._place(token, first=not self._tokens)
            super()._take([token])

    def _place(self, token: int, *, first: bool) -> None:
        """A token into the part of the answer that it belongs to."""
        channel = self.form.channel
        if channel is not None and first and token == channel.opening:
            self._in_head = True
            self._head.finish([token])
        elif channel is not None and self._in_head:
            self._head.finish([token])
            self._in_head = token != channel.closing
            self._of_thought += self._in_head
        elif self._called or token == self._calling:
            self._called = True
            self._calls.finish([token])
        else:
            self._text.add(self.form.vocabulary.texts[token] or b"")

    def _end(self, *, cut: bool) -> str:
        if not self._ended:
            self._ended, self._in_head = True, False
            self._head.end()
            self._calls.end()
            self._text.end()
        return super()._end(cut=cut)


class FormText:
    """The text that an answer's bytes write."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._said: list[str] = []
        self._given = 0  # parts that were handed out

    def copy(self) -> FormText:
        """A text of its own that goes on from here."""
        other = copy(self)
        other._decoder, other._said = deepcopy(self._decoder), [*self._said]
        return other

    @property
    def text(self) -> str:
        """All that stays, whatever follows."""
        return "".join(self._said)

    def add(self, written: bytes) -> None:
        """Put bytes at the end."""
        self._put(self._decoder.decode(written))

    def end(self) -> None:
        """Take note that no byte follows."""
        self._put(self._decoder.decode(b"", final=True))

    def fresh(self) -> str:
        """The text that came since the last call and stays."""
        first, self._given = self._given, len(self._said)
        return "".join(self._said[first:])

    def _put(self, text: str) -> None:
        self._said.append(text)


class JsonText(FormText):
    """The text of JSON without white space and a fence around it.

    What may belong to the opening fence waits until it is known; so do white space and backticks,
    of which the closing one may be made.
    """

    def __init__(self) -> None:
        super().__init__()
        self._front: str | None = ""  # until the JSON begins
        self._waiting = ""

    def end(self) -> None:
        """Take note that no byte follows."""
        super().end()
        if self._front is not None:
            self._said.append(stripped(self._front))
        else:
            # A character in front keeps `stripped` from what would be an opening fence.
            self._said.append(stripped("{" + self._waiting)[1:])
        self._front, self._waiting = None, ""

    def _put(self, text: str) -> None:
        if self._front is None:
            self._grow(text)
            return
        self._front += text
        begun = self._front.lstrip(BLANKS)
        if begun.startswith(FENCE):
            begun = begun[len(FENCE) :]
            if FENCED.startswith(begun):
                return
            begun = begun.removeprefix(FENCED).lstrip(BLANKS)
        if begun.strip(f"{BLANKS}`"):
            self._front = None
            self._grow(begun)

    def _grow(self, text: str) -> None:
        """Let go of what no end takes away."""
        grown = self._waiting + text
        kept = grown.rstrip(f"{BLANKS}`")
        self._waiting = grown[len(kept) :]
        self._said.append(kept)
