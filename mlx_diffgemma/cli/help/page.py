"""Plain text of paragraphs and rows, broken for a terminal of any width."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

WIDEST = 80  # columns of a page at most
INDENT = 2  # of rows
STACKED = 6  # indent of what a word does, where it stands below the word for want of room
LONGEST = 36  # characters of a word that the others make room for

Row = tuple[str, str]
Block = str | Sequence[Row]
"""A paragraph, or rows of a word and what it does."""


def page_lines(blocks: Sequence[Block], columns: int) -> Iterator[str]:
    """The lines of a page for a terminal of so many columns; rows stand below their paragraph.

    No word is broken, nor the first part of a row, which may be a command.
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
    fitting = [len(word) for word, text in rows if len(word) <= LONGEST and text]
    column = INDENT + 2 + max(fitting, default=0)
    if column > width // 2:
        column = STACKED
    for word, text in rows:
        lines = _broken(text, width - column)
        if lines and len(word) + INDENT + 2 <= column:
            word = f"{word:<{column - INDENT}}{lines.pop(0)}"
        yield " " * INDENT + word
        yield from (" " * column + line for line in lines)


def _broken(text: str, width: int) -> list[str]:
    return wrap(text, width, break_on_hyphens=False, break_long_words=False)
