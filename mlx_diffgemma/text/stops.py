"""A text that grows until one of its stop texts stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass
class StoppedText:
    """Text that ends before the first stop text, which is looked for in what was added last."""

    stops: Sequence[str]
    end: int | None = None  # where the first stop text begins
    found: str | None = None  # that stop text, the first given of those that begin there
    begun: bool = False  # it is more than blanks
    chunks: list[str] = field(default_factory=list)
    length: int = 0
    tail: str = ""  # the last characters, in which a stop text may begin

    def copy(self) -> StoppedText:
        """A text of its own that goes on from here."""
        return replace(self, chunks=[*self.chunks])

    def add(self, text: str) -> None:
        """Put `text` at the end; nothing where a stop text was found before."""
        if self.end is not None or not text:
            return
        self.chunks.append(text)
        self.length += len(text)
        self.begun = self.begun or not text.isspace()
        if self.stops:
            self._look_for_stops(self.tail + text)

    def clear(self) -> None:
        """Forget all text."""
        self.chunks, self.length, self.tail = [], 0, ""

    @property
    def text(self) -> str:
        """The text, up to the stop text."""
        return "".join(self.chunks)[: self.end]

    def between(self, first: int, end: int) -> str:
        """A part of the text, found from the end."""
        begin, chunks = self.length, list[str]()
        for chunk in reversed(self.chunks):
            if begin <= first:
                break
            begin -= len(chunk)
            chunks.append(chunk)
        return "".join(reversed(chunks))[max(0, first - begin) : max(0, end - begin)]

    @property
    def stays(self) -> int:
        """Characters from the beginning that no later text takes away as part of a stop text."""
        if self.end is not None:
            return self.end
        beginnings = (at for at in range(len(self.tail)) if self._may_begin(self.tail[at:]))
        return self.length - len(self.tail) + next(beginnings, len(self.tail))

    def _may_begin(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self.stops)

    def _look_for_stops(self, ending: str) -> None:
        found = {stop: at for stop in self.stops if (at := ending.find(stop)) >= 0}
        if found:
            self.found = min(found, key=found.__getitem__)
            self.end = self.length - len(ending) + found[self.found]
        self.tail = ending[max(0, len(ending) - max(map(len, self.stops)) + 1) :]
