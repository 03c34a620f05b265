"""Sudoku, which no other module knows: the typing of a puzzle, and the rules for an answer.

A grid is a string of 81 characters, row by row, "0" for a blank; cell = 9 * row + column, from 0.
Whatever a person reads counts from 1. Boxes are numbered row by row too: box 5 is the middle one.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import PromptError, counted
from . import Layout

if TYPE_CHECKING:
    from PIL.Image import Image

_FORM = "type 81 cells row by row, 1-9 for a given and 0 or . for a blank"
_HOLE = "[[1]]"
_RETAKE = "crop it to the grid, upright and sharp, or type the puzzle"
MOST_DOUBTFUL = 8  # cells of a picture that is still taken for a grid; docs/decisions.md
LEAST_GIVENS = 17  # no puzzle with fewer has one solution
MOST_TRIED = 5_000  # digits in cells, before a search for a solution is given up


def _box(number: int) -> tuple[int, ...]:
    first = 27 * (number // 3) + 3 * (number % 3)
    return tuple(first + 9 * row + column for row in range(3) for column in range(3))


_UNITS: tuple[tuple[str, int, tuple[int, ...]], ...] = (
    *(("row", i + 1, tuple(range(9 * i, 9 * i + 9))) for i in range(9)),
    *(("column", i + 1, tuple(range(i, 81, 9))) for i in range(9)),
    *(("box", i + 1, _box(i)) for i in range(9)),
)
"""The 27 groups of cells that hold each digit once: kind, number and cells."""


_PEERS = [
    {other for _, _, unit in _UNITS if cell in unit for other in unit} - {cell}
    for cell in range(81)
]
"""Cell -> the 20 cells that may not hold its digit."""


@dataclass(frozen=True)
class SudokuTask:
    """Sudoku as tiny-sudoku was trained on it; implements `mlx_diffgemma.assets.Task`."""

    def prepare(self, text: str) -> str:
        """Nine rows of nine digits joined by line breaks; the chat template writes the rest."""
        return rows_of(parse_puzzle(text))

    @property
    def characters(self) -> str:
        """The digits; 0 is a blank cell."""
        return "0123456789"

    def picture(self, image: "Image") -> "Image":
        """A picture of one grid, cropped to its frame and padded: 480x432, ten cells by nine."""
        from .sudoku_picture import prepared

        return prepared(image)

    def read(self, characters: str, doubtful: Collection[int] = ()) -> str:
        """The nine rows of the puzzle in a picture; what the tenth column shows does not count."""
        return rows_of(read_grid(characters, doubtful))

    def template(self, text: str) -> tuple[str, str]:
        """The nine rows with a hole for each blank, and the prompt; a blank may be typed [[1]]."""
        rows = self.prepare(text.replace(_HOLE, "0".ljust(len(_HOLE))))  # keeps places in errors
        return rows.replace("0", _HOLE), rows

    def problem(self, prompt: str, answer: str) -> str | None:
        """The reason that `answer` does not solve `prompt`, in one line; None where it does.

        Any full grid that keeps the givens and breaks no rule is right: a puzzle may have several.
        `prompt` in any form `parse_puzzle` takes; white space around the answer does not count.
        """
        puzzle = parse_puzzle(prompt)
        rows = answer.strip().split("\n")
        grid = "".join(rows)
        return _misshapen(rows) or _changed_given(puzzle, grid) or _clash(grid)

    def unsolvable(self, prompt: str) -> bool:
        """True where a search of at most MOST_TRIED steps finds that no grid solves `prompt`."""
        grid = parse_puzzle(prompt)
        digits = dict.fromkeys(range(81), "123456789")
        for cell, given in enumerate(grid):
            if given != "0":
                digits = _without(digits, cell, given)
        return not _may_be_solved(digits, [MOST_TRIED])

    def drawing(self, problem: str) -> tuple[str, ...]:
        """The grid with its boxes, a dot for each blank."""
        shown = problem.replace("0", "·")
        return tuple(
            "".join(part if isinstance(part, str) else shown[part] for part in row)
            for row in self.layout
        )

    @property
    def layout(self) -> Layout:
        """The grid with its boxes; on the canvas a line break follows each row of nine."""
        lines: list[tuple[str | int, ...]] = [(_rule("┌┬┐"),)]
        for row in range(9):
            cells = range(10 * row, 10 * row + 9)
            lines.append((*(part for cell in cells for part in _bordered(cell)), " │"))
            if row in (2, 5):
                lines.append((_rule("├┼┤"),))
        return (*lines, (_rule("└┴┘"),))


def parse_puzzle(text: str) -> str:
    """The grid in `text`: 81 of 1-9, 0 or . for a blank, white space anywhere; else PromptError."""
    grid = "".join(_cells(text))
    if not grid:
        raise PromptError(f"the puzzle is empty: {_FORM}.")
    if len(grid) != 81:
        raise PromptError(f"the puzzle has {len(grid)} of 81 cells: {_FORM}.")
    if clash := _clash(grid):
        raise PromptError(f"the puzzle has no solution: {clash}; correct one of the two.")
    return grid


def read_grid(characters: str, doubtful: Collection[int] = ()) -> str:
    """The grid in the 90 soft tokens of a picture, ten a row; PromptError where there is none.

    doubtful: the tokens that look like no digit and no blank. A few may, where a digit is smudged.
    """
    if len(characters) != 90:
        raise PromptError(
            f"the picture has {len(characters)} soft tokens, expected 90; give the picture "
            "itself, not its Pixels."
        )
    cells = [10 * row + column for row in range(9) for column in range(9)]
    if (unlike := len(set(cells).intersection(doubtful))) > MOST_DOUBTFUL:
        raise PromptError(
            f"no Sudoku is seen in the picture: {unlike} of 81 cells look like no digit and no "
            f"blank, expected at most {MOST_DOUBTFUL}; {_RETAKE}."
        )
    grid = "".join(characters[cell] for cell in cells)
    if (givens := 81 - grid.count("0")) < LEAST_GIVENS:
        raise PromptError(
            f"no Sudoku is seen in the picture: {counted(givens, 'digit')} in 81 cells, expected "
            f"at least {LEAST_GIVENS}, as every puzzle with one solution has; {_RETAKE}."
        )
    if clash := _clash(grid):
        shown = grid.replace("0", ".")
        raise PromptError(
            f"the picture was read as {shown}, where {clash}; correct it and give it as text, or "
            "take a sharper picture."
        )
    return grid


def rows_of(grid: str) -> str:
    """The nine rows of a grid, a line each."""
    return "\n".join(grid[start : start + 9] for start in range(0, 81, 9))


def _rule(ends: str) -> str:
    return ends[0] + ends[1].join(["───────"] * 3) + ends[2]


def _bordered(position: int) -> tuple[str | int, ...]:
    """A cell behind a blank, and behind a border where a box begins."""
    return ("│ " if position % 10 == 0 else " │ " if position % 10 in (3, 6) else " ", position)


def _cells(text: str) -> Iterator[str]:
    """The cells of `text` with "0" for a blank; PromptError at the first foreign character."""
    for row, line in enumerate(text.splitlines(), 1):
        for column, character in enumerate(line, 1):
            if character in "0123456789.":
                yield character.replace(".", "0")
            elif not character.isspace():
                where = f"line {row}, character {column}"
                raise PromptError(f"{character!r} at {where} is no part of a puzzle: {_FORM}.")


def _clash(grid: str) -> str | None:
    """The first two equal digits in one row, column or box, in words; blanks never clash."""
    for kind, number, cells in _UNITS:
        seen: dict[str, int] = {}
        for cell in cells:
            digit = grid[cell]
            if digit in seen:
                return f"{kind} {number} has two {digit}s ({_both(kind, seen[digit], cell)})"
            if digit != "0":
                seen[digit] = cell
    return None


def _both(kind: str, first: int, second: int) -> str:
    """Two cells of one unit, named by what tells them apart."""
    if kind == "row":
        return f"columns {first % 9 + 1} and {second % 9 + 1}"
    if kind == "column":
        return f"rows {first // 9 + 1} and {second // 9 + 1}"
    return f"{_place(first)} and {_place(second)}"


def _place(cell: int) -> str:
    return f"row {cell // 9 + 1}, column {cell % 9 + 1}"


def _without(digits: dict[int, str], cell: int, digit: str) -> dict[int, str]:
    """The digits that open cells may hold, once `cell` holds `digit`."""
    return {
        other: left.replace(digit, "") if other in _PEERS[cell] else left
        for other, left in digits.items()
        if other != cell
    }


def _may_be_solved(digits: dict[int, str], tries: list[int]) -> bool:
    """False where nothing fits the open cells; True as well when all tries, one item, are spent."""
    tries[0] -= 1
    if not digits or tries[0] < 0:
        return True
    cell = min(digits, key=lambda cell: len(digits[cell]))
    return any(_may_be_solved(_without(digits, cell, d), tries) for d in digits[cell])


def _misshapen(rows: list[str]) -> str | None:
    """The reason that `rows` are not nine rows of nine digits 1-9, None where they are."""
    for number, row in enumerate(rows, 1):
        for column, character in enumerate(row, 1):
            if character not in "123456789":
                where = f"row {number}, column {column}"
                return f"the answer has {character!r} at {where}, expected a digit 1-9"
    if (count := sum(map(len, rows))) != 81:
        return f"the answer has {count} digits, expected 81"
    for number, row in enumerate(rows, 1):
        if len(row) != 9:
            return f"row {number} of the answer has {len(row)} digits, expected 9"
    return None


def _changed_given(puzzle: str, grid: str) -> str | None:
    for cell, (given, digit) in enumerate(zip(puzzle, grid, strict=True)):
        if given not in ("0", digit):
            return f"given {given} at {_place(cell)} became {digit}"
    return None
