"""Plain text of paragraphs and rows, broken for a terminal of any width."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

WIDEST, NARROW = 80, 60  # columns of a page at most, and those below which rows are stacked
INDENT, STACKED = 2, 6
LONGEST = 36  # characters of a row's first column

Row = tuple[str, str]
Block = str | Sequence[Row]
"""A paragraph, or rows of a word and what it does."""


def page_lines(blocks: Sequence[Block], columns: int) -> Iterator[str]:
    """The lines of a page for a terminal of so many columns; rows stand below their paragraph.

    The first word of a row, which may be a command, is never broken.
    """
    width = max(min(columns, WIDEST), 10)
    for number, block in enumerate(blocks):
        if isinstance(block, str):
            if number:
                yield ""
            yield from _broken(block, width)
        else:
            yield from _rows(block, width)


def _rows(rows: Sequence[Row], width: int) -> Iterator[str]:
    stacked = width < NARROW
    fitting = [len(word) for word, text in rows if len(word) <= LONGEST and text]
    column = STACKED if stacked else INDENT + 2 + max(fitting, default=INDENT)
    for word, text in rows:
        lines = _broken(text, width - column)
        if not stacked and len(word) <= LONGEST and lines:
            word = f"{word:<{column - INDENT}}{lines.pop(0)}"
        yield " " * INDENT + word
        yield from (" " * column + line for line in lines)


def _broken(text: str, width: int) -> list[str]:
    return wrap(text, width, break_on_hyphens=False)
