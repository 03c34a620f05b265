"""Reading an answer while it is generated: each finished token once, a canvas in work as often as
it is looked at. What was read is not decoded again, so that a token costs the same at any length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass

from .answer import Answer, AnswerBuilder
from .pieces import ANSWER, BEHIND, CONTROL, THINKING, Parts
from .tokenizer import Tokenizer
from .tools import Tool, ToolCall


@dataclass(frozen=True)
class Stop:
    """The first stop text: complete after so many tokens, and where it begins in the answer's."""

    tokens: int
    at: int
    text: str


class AnswerReader:
    """Reads one answer, segment by segment: the ids of a canvas, or those written one by one.

    A character of several tokens is shown with the last of them. `stops` are looked for in the
    text of the answer, not in thoughts or tool calls. raw: markers are text like any other. tools:
    those that the model was told of.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: Collection[int] = (),
        stops: Sequence[str] = (),
        *,
        raw: bool = False,
        tools: Sequence[Tool] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.stopped: Stop | None = None
        self._stop_ids = stop_ids
        self._builder = AnswerBuilder(tokenizer, tuple(stops), raw, tools)
        self._over = False  # behind a stop id or a stop text
        self._tokens = 0  # that were taken, of all segments
        self._pieces: list[str] = []  # of the segment
        self._roles: list[str] = []
        self._given = 0  # characters of the text that were handed out
        self._given_thoughts = self._given_calls = self._begun_thoughts = 0

    def begin(self, ids: Sequence[int]) -> None:
        """Take the beginning of an answer whose text was handed out before."""
        self.finish(ids)
        self._given = self._builder.text.length
        self._begun_thoughts = self._builder.thoughts.tokens
        self.fresh_thought()
        self.fresh_calls()

    def read(self, ids: Sequence[int], settled: int = 0) -> Parts:
        """The parts of a segment in work, all its ids given; the first `settled` will not change.

        A canvas that is being denoised has none, tokens that were written one by one all.
        """
        self._take(ids[len(self._pieces) : settled])
        rest = ids[len(self._pieces) :]
        return (self.ahead(rest) if rest else self)._parts()

    def finish(self, ids: Sequence[int], *, last: bool = False) -> Parts:
        """The parts of a finished segment, which the next continues. last: none does."""
        self._take(ids[len(self._pieces) :])
        if last and (rest := self._end(cut=True)) and self._pieces:
            self._pieces[-1] += rest
        parts = self._parts()
        self._pieces, self._roles = [], []
        return parts

    def copy(self) -> AnswerReader:
        """A reader of its own that goes on from here."""
        other = copy(self)
        other._builder = self._builder.copy()
        other._pieces, other._roles = [*self._pieces], [*self._roles]
        return other

    def ahead(self, ids: Sequence[int]) -> AnswerReader:
        """A reader that has read on; this one stays where it is."""
        other = self.copy()
        other._take(ids)
        return other

    def answer(self) -> Answer:
        """The answer, if nothing follows what was read."""
        return self._builder.answer()

    def fresh(self) -> str:
        """The text that came since the last call and stays, whatever follows.

        Blanks that a thought may follow wait, and what a stop text may begin with.
        """
        text = self._builder.text
        stays = text.stays if self._builder.certain else 0
        if self._over:
            stays = text.length if text.end is None else text.end
        first, self._given = self._given, max(self._given, stays)
        return text.between(first, self._given)

    def fresh_thought(self) -> str:
        """The text of thoughts that came since the last call."""
        said = self._builder.thoughts.said
        first, self._given_thoughts = self._given_thoughts, len(said)
        return "".join(said[first:])

    def fresh_calls(self) -> tuple[ToolCall, ...]:
        """The calls that came since the last call, each whole."""
        calls = self._builder.calls
        first, self._given_calls = self._given_calls, len(calls)
        return tuple(calls[first:])

    @property
    def thought_tokens(self) -> int:
        """The number of tokens in thoughts, their names among them, their markers not.

        Without those that `begin` took.
        """
        return self._builder.thoughts.tokens - self._begun_thoughts

    def end(self) -> None:
        """Take note that nothing follows, where no `finish` has said so."""
        self._end(cut=True)

    def _parts(self) -> Parts:
        return Parts(tuple(self._pieces), "".join(self._roles))

    def _take(self, ids: Sequence[int]) -> None:
        for token in ids:
            self._tokens += 1
            piece, role = self._next(token)
            self._pieces.append(piece)
            self._roles.append(role)

    def _next(self, token: int) -> tuple[str, str]:
        """Piece and role of the next token."""
        builder = self._builder
        if self._over:
            return builder.skip(token), BEHIND
        if token in self._stop_ids:
            return self._end(cut=False) + builder.skip(token), CONTROL
        piece = builder.take(token)
        if late := min(builder.late, len(self._roles)):
            behind = self._roles[-late:]
            self._roles[-late:] = [ANSWER if role == THINKING else role for role in behind]
        self._look_for_stop()
        if token in self.tokenizer.control_ids:
            return piece, CONTROL
        return piece, THINKING if builder.thinking else ANSWER

    def _end(self, *, cut: bool) -> str:
        """The answer ends here, cut or by itself; the text of a character that this cuts."""
        rest = "" if self._over else self._builder.end(cut=cut)
        self._look_for_stop()
        self._over = True
        return rest

    def _look_for_stop(self) -> None:
        at = self._builder.text.end
        if at is not None and self.stopped is None:
            found = self._builder.text.found or ""
            self.stopped, self._over = Stop(self._tokens, at, found), True


def parse_answer(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    stop_ids: Collection[int] = (),
    tools: Sequence[Tool] = (),
) -> Answer:
    """Generated ids, taken apart into text, thinking and tool calls, without `stop_ids` at the end.

    The rules are those of `answer`; tools: those that the model was told of.
    """
    end = len(ids)
    while end and ids[end - 1] in stop_ids:
        end -= 1
    builder = AnswerBuilder(tokenizer, tools=tools)
    for token in ids[:end]:
        builder.take(int(token))
    if end < len(ids):
        builder.end(cut=False)
    return builder.answer()
