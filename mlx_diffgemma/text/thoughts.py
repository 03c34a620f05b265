"""The text of an answer's thoughts as it grows: a line break between two, no blanks around one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass
class Thoughts:
    """Thoughts one after the other; what is in `said` stays, whatever comes.

    tokens: of all thoughts, their names among them, their markers not.
    """

    said: list[str] = field(default_factory=list)
    tokens: int = 0
    _begun: bool = False  # the thought in work is more than blanks
    _blanks: str = ""  # behind it

    def copy(self) -> Thoughts:
        """Thoughts of their own that go on from here."""
        return replace(self, said=[*self.said])

    @property
    def text(self) -> str | None:
        """All of them, None where there is none, or only empty ones."""
        return "".join(self.said) or None

    def begin(self) -> None:
        """Begin another thought."""
        self._begun, self._blanks = False, ""

    def add(self, text: str) -> None:
        """Put text at the end of the thought in work."""
        if not self._begun:
            if not (text := text.lstrip()):
                return
            self.said += ["\n"] if self.said else []
            self._begun = True
        grown = self._blanks + text
        kept = grown.rstrip()
        self._blanks = grown[len(kept) :]
        if kept:
            self.said.append(kept)
