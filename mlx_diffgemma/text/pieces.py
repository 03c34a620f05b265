"""Pieces of an answer: for each generated id the text it shows, and its role in the answer.

A character may take several tokens, one a byte. Its text belongs to the last of them, so a piece
shows U+FFFD only for bytes that make no character at all.
"""

from __future__ import annotations

from dataclasses import dataclass

ANSWER, THINKING, CONTROL, BEHIND = "a", "t", "c", "b"
"""Roles: answer, thought, control token, and whatever stands behind the end of the answer."""

ROLES = frozenset({ANSWER, THINKING, CONTROL, BEHIND})


@dataclass(frozen=True)
class Parts:
    """Texts and roles of ids, one entry a token; the roles as a string of one letter each."""

    pieces: tuple[str, ...]
    roles: str

    @property
    def text(self) -> str:
        """The text of all of them."""
        return "".join(self.pieces)
