"""Styled text broken into lines of terminal cells: words stay whole where a line can hold them.

Widths are those of `rich.cells`. Characters without a width of their own, or with another one in
every terminal (joiners, variation selectors, skin tones, direction marks), are left out; characters
that could move the cursor become dots. So a line is as wide as its count of cells, whatever a model
writes.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

WORDS = re.compile(r"( *)([^ ]*)")
ATOM = re.compile(r"\n| +|[^ \n]+")
TAB, DOT = "    ", "·"
# Variation selectors and skin tones.
VARIATIONS = re.compile("[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]")

Line = tuple[Segment, ...]


@lru_cache(maxsize=1 << 16)
def atoms(text: str) -> tuple[tuple[str, int], ...]:
    """`text`, made printable, as words, runs of spaces and line breaks, each with its cells."""
    if not text.isprintable() or VARIATIONS.search(text):
        text = "".join(map(_shown, text))
    return tuple((atom, cell_len(atom)) for atom in ATOM.findall(text))


def _shown(character: str) -> str:
    """The text for one character: itself, nothing, spaces or a dot."""
    if character in "\n\u2028\u2029":
        return "\n"
    if character == "\t":
        return TAB
    kind = unicodedata.category(character)
    if kind == "Cf" or character == "\r" or VARIATIONS.match(character):
        return ""
    if kind == "Zs":
        return " "
    return character if character.isprintable() else DOT


class Wrapper:
    """Lines of text that comes bit by bit: `lines` are the full ones, `finished` gives all."""

    def __init__(self, width: int) -> None:
        self.width = max(1, width)
        self.lines: list[Line] = []
        self.line: list[tuple[str, Style]] = []  # the open line: text and style
        self.cells = 0
        self.word: list[tuple[str, Style]] = []  # not yet on it, since it may go on
        self.word_cells = 0

    def copy(self, keep: int) -> "Wrapper":
        """The same state with its last `keep` full lines only."""
        other = Wrapper(self.width)
        other.lines = self.lines[-keep:] if keep else []
        other.line, other.cells = list(self.line), self.cells
        other.word, other.word_cells = list(self.word), self.word_cells
        return other

    def add(self, text: str, style: Style) -> None:
        """Continue the text."""
        for atom, cells in atoms(text):
            if atom == "\n":
                self._end_word()
                self._end_line()
            elif atom[0] == " ":
                self._end_word()
                self._add_spaces(atom, cells, style)
            else:
                self.word.append((atom, style))
                self.word_cells += cells

    def finished(self) -> list[Line]:
        """All lines; the open one ends."""
        self._end_word()
        if self.line:
            self._end_line()
        return self.lines

    def _end_word(self) -> None:
        if self.cells + self.word_cells > self.width:
            if self.cells and self.word_cells <= self.width:
                self._end_line()
            elif self.word_cells > self.width:
                self._split_word()
        self.line += self.word
        self.cells += self.word_cells
        self.word, self.word_cells = [], 0

    def _split_word(self) -> None:
        """Put a word that no line can hold on as many as it takes."""
        for atom, style in self.word:
            for part, cells in _characters(atom):
                if self.cells + cells > self.width and self.cells:
                    self._end_line()
                if cells <= self.width:  # in one column, no wide character can be shown
                    self.line.append((part, style))
                    self.cells += cells
        self.word, self.word_cells = [], 0

    def _add_spaces(self, spaces: str, cells: int, style: Style) -> None:
        """Spaces up to the edge; those behind it are the line break's."""
        room = min(cells, self.width - self.cells)
        if room:
            self.line.append((spaces[:room], style))
            self.cells += room

    def _end_line(self) -> None:
        self.lines.append(joined(self.line))
        self.line, self.cells = [], 0


def _characters(atom: str) -> Iterator[tuple[str, int]]:
    """Each character with its marks, and its cells."""
    start = 0
    for end in range(1, len(atom) + 1):
        if end == len(atom) or cell_len(atom[end]):
            yield atom[start:end], cell_len(atom[start:end])
            start = end


def joined(parts: Sequence[tuple[str, Style]]) -> Line:
    """Segments, one for neighbours of one style."""
    segments: list[Segment] = []
    text, last = "", None
    for part, style in parts:
        if style is last:
            text += part
            continue
        if text:
            segments.append(Segment(text, last))
        text, last = part, style
    if text:
        segments.append(Segment(text, last))
    return tuple(segments)


def word_wrapped(text: str, width: int, indent: int = 0) -> str:
    """Text with line breaks between its words, at which rows of `width` cells are full.

    A word that no row can hold stays whole: the terminal breaks it, and it can still be copied.
    indent: blanks in front of further rows, where they leave half of the row.
    """
    margin = " " * (indent if indent <= width // 2 else 0)
    rows, row, cells = [], "", 0
    for blanks, word in WORDS.findall(text):
        needed = cell_len(blanks) + cell_len(word)
        if row.strip() and word and cells + needed > width:
            rows.append(row)
            row, cells, blanks = margin, len(margin), ""
        row += blanks + word
        cells = _column(cells, blanks + word, width)
    return "\n".join([*rows, row])


def _column(column: int, text: str, width: int) -> int:
    """The column behind `text`, which begins at `column`, where a terminal breaks rows anywhere."""
    for cells in map(cell_len, text):
        column = column + cells if column + cells <= width else cells
    return column
