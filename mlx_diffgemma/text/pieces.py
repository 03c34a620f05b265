"""Pieces of an answer: for each generated id the text it shows, and its role in the answer.

A character may take several tokens, one a byte. Its text belongs to the last of them, so a piece
shows U+FFFD only for bytes that make no character at all.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .chat import THOUGHT
from .tokenizer import Tokenizer

ANSWER, THINKING, CONTROL, BEHIND = "a", "t", "c", "b"
"""Roles: answer, thought, control token, and whatever stands behind the stop id."""

ROLES = frozenset({ANSWER, THINKING, CONTROL, BEHIND})
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
LONGEST_CHARACTER = 4  # bytes of UTF-8


@dataclass(frozen=True)
class Parts:
    """Texts and roles of ids, one entry a token; the roles as a string of one letter each."""

    pieces: tuple[str, ...]
    roles: str


@dataclass
class PieceReader:
    """Reads one answer: canvas over canvas as it is denoised, and on once one is finished."""

    tokenizer: Tokenizer
    stop_ids: Collection[int]
    seen: list[int] = field(default_factory=list)  # finished tokens whose end the next may complete
    channel: str | None = None  # how the channel begins that a finished canvas left open
    known: dict[int, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.opening = self.tokenizer.id_of("<|channel>")
        self.closing = self.tokenizer.id_of("<channel|>")

    def read(self, ids: Sequence[int], *, more: bool = False) -> Parts:
        """The parts of a canvas behind all that is finished.

        more: further tokens may come, so that an unfinished character shows nothing yet.
        """
        return self._take_apart(ids, last=not more)[0]

    def finish(self, ids: Sequence[int]) -> Parts:
        """The parts of a finished canvas; what comes next continues it, its last character too."""
        parts, self.channel = self._take_apart(ids, last=False)
        self.seen = [*self.seen, *ids][-(LONGEST_CHARACTER - 1) :]
        return parts

    def _take_apart(self, ids: Sequence[int], last: bool) -> tuple[Parts, str | None]:
        """Parts, and the channel that is open behind them; last: no token comes behind these."""
        pieces = tuple(self._pieces([*self.seen, *ids], last)[len(self.seen) :])
        roles, channel = self._roles(ids, pieces)
        return Parts(pieces, roles), channel

    def _pieces(self, ids: Sequence[int], last: bool) -> list[str]:
        """A text a token; bytes that follow each other are decoded together."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces: list[str] = []
        after_byte = False
        for token in ids:
            shown = self._shown(token)
            if isinstance(shown, int):
                pieces.append(decoder.decode(bytes((shown,))))
            else:
                if after_byte:
                    pieces[-1] += decoder.decode(b"", final=True)
                pieces.append(shown)
            after_byte = isinstance(shown, int)
        if after_byte and last:
            pieces[-1] += decoder.decode(b"", final=True)
        return pieces

    def _shown(self, token: int) -> str | int:
        """A token's text, or its byte."""
        if token not in self.known:
            name = self.tokenizer.backend.id_to_token(token) or ""
            byte = BYTE.fullmatch(name)
            text = self.tokenizer.decode([token])
            self.known[token] = int(byte[1], 16) if byte and text != name else text
        return self.known[token]

    def _roles(self, ids: Sequence[int], pieces: Sequence[str]) -> tuple[str, str | None]:
        """A role a token, and the name of the channel that is open at the end."""
        roles: list[str] = []
        channel, first = self.channel, 0  # first: where the open channel begins in ids
        for token, piece in zip(ids, pieces, strict=True):
            if token in self.stop_ids:
                roles += [CONTROL, *[BEHIND] * (len(ids) - len(roles) - 1)]
                break
            if token in (self.opening, self.closing):
                channel, first = ("" if token == self.opening else None), len(roles) + 1
            if token in self.tokenizer.control_ids:
                roles.append(CONTROL)
                continue
            roles.append(ANSWER if channel is None else THINKING)
            if channel is not None and not channel.startswith(THOUGHT):
                channel = (channel + piece).lstrip()
                if not (channel.startswith(THOUGHT) or THOUGHT.startswith(channel)):
                    channel = None  # another channel is a part of the answer
                    roles[first:] = [ANSWER if r == THINKING else r for r in roles[first:]]
        return "".join(roles), channel
