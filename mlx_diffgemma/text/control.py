"""Control texts: what a vocabulary writes for its control tokens, and where they stand in a text.

A tokenizer recognises them wherever they stand. A text that is to stay text is cut inside each of
them, and its pieces are encoded one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

CONTROL = re.compile(
    r'<\|([a-z_]+\|?|"\|)>|<[a-z_]+\|>|<unused\d+>|<mask>|\[multimodal\]|<(start|end)_of_\w+>'
)
"""The shapes of control texts that a tokenizer may call ordinary ones."""

VIDEO = "<|video|>"  # templates write it for a video, under this name in every checkpoint

Span = tuple[int, int]
"""Where an occurrence begins and ends."""


@dataclass(frozen=True)
class ControlTexts:
    """The control texts of one vocabulary, each of two characters at least."""

    texts: Collection[str]

    @cached_property
    def edges(self) -> frozenset[str]:
        """The first and last characters of control texts: none is made without them."""
        return frozenset(edge for text in self.texts for edge in (text[0], text[-1]))

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """The lengths of the control texts that begin with the same two characters."""
        found: dict[str, set[int]] = {}
        for text in self.texts:
            found.setdefault(text[:2], set()).add(len(text))
        return {begin: sorted(lengths) for begin, lengths in found.items()}

    @cached_property
    def _begin(self) -> Callable[[str], Iterator[re.Match[str]]]:
        pairs = "|".join(map(re.escape, self._lengths)) or r"(?!)"
        return re.compile(f"(?={pairs})").finditer

    def spans(self, text: str) -> Iterator[Span]:
        """Every occurrence of a control text, those that overlap others too, in order."""
        for match in self._begin(text):
            at = match.start()
            for length in self._lengths[text[at : at + 2]]:
                if (end := at + length) <= len(text) and text[at:end] in self.texts:
                    yield at, end

    def cut(self, text: str) -> tuple[str, ...]:
        """A text in pieces of which none holds a control text."""
        return parts(text, [start + 1 for start, _ in self.spans(text)])


def parts(text: str, places: Collection[int]) -> tuple[str, ...]:
    """A text cut at these places, each inside it; the whole where there are none."""
    bounds = (0, *sorted(set(places)), len(text))
    return tuple(text[begin:end] for begin, end in pairwise(bounds))
