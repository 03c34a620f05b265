"""Sudoku puzzles with one solution, each a function of its number; and their symmetries.

A grid is an array [81] of digits, 0 for a blank; candidates of a cell are bits, digit d bit d - 1.
"""

import random
from functools import cache

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.int8]

ALL = (1 << 9) - 1
FEWEST, MOST = 22, 32  # clues that a puzzle is dug down to, where it can be


def _units(cell: int) -> tuple[int, int, int]:
    """Row, column and box of a cell, as numbers of 27 units."""
    row, column = divmod(cell, 9)
    return row, 9 + column, 18 + 3 * (row // 3) + column // 3


UNITS = [_units(cell) for cell in range(81)]


class Board:
    """A grid that is being filled, with the digits that each unit lacks."""

    def __init__(self, cells: list[int]) -> None:
        self.cells, self.lacking = [0] * 81, [ALL] * 27
        for cell, digit in enumerate(cells):
            if digit:
                self.put(cell, digit)

    def put(self, cell: int, digit: int) -> None:
        """Fill a blank, or make it blank again."""
        self.cells[cell] = 0 if self.cells[cell] else digit
        for unit in UNITS[cell]:
            self.lacking[unit] ^= 1 << (digit - 1)

    def candidates(self, cell: int) -> int:
        """The digits that no unit of the cell has yet, as bits."""
        row, column, box = UNITS[cell]
        return self.lacking[row] & self.lacking[column] & self.lacking[box]

    def fill(self, rng: random.Random | None = None) -> bool:
        """Fill all blanks, digits in the order of `rng`; False, and as before, where none fits."""
        best, digits, fewest = -1, 0, 10
        for cell, digit in enumerate(self.cells):
            if not digit and (count := (free := self.candidates(cell)).bit_count()) < fewest:
                best, digits, fewest = cell, free, count
                if count <= 1:
                    break
        if best < 0:
            return True
        order = [digit for digit in range(1, 10) if digits >> (digit - 1) & 1]
        if rng:
            rng.shuffle(order)
        for digit in order:
            self.put(best, digit)
            if self.fill(rng):
                return True
            self.put(best, digit)
        return False


@cache
def puzzle(seed: int, number: int) -> tuple[Grid, Grid]:
    """Puzzle `number` of a seed and its only solution."""
    rng = random.Random(f"{seed}/{number}")
    whole = Board([0] * 81)
    whole.fill(rng)
    cells, clues = list(whole.cells), 81
    wanted = rng.randint(FEWEST, MOST)
    for cell in rng.sample(range(81), 81):
        if clues > wanted and not _fits_another(cells, cell):
            cells[cell], clues = 0, clues - 1
    return np.array(cells, np.int8), np.array(whole.cells, np.int8)


def _fits_another(cells: list[int], cell: int) -> bool:
    """True where a grid with another digit in `cell` solves the rest of the puzzle."""
    digit = cells[cell]
    rest = Board([0 if at == cell else d for at, d in enumerate(cells)])
    for other in range(1, 10):
        if other != digit and rest.candidates(cell) >> (other - 1) & 1:
            rest.put(cell, other)
            if rest.fill():
                return True
            rest.put(cell, other)
    return False


def varied(rng: random.Random, clues: Grid, solution: Grid) -> tuple[Grid, Grid]:
    """The puzzle under one of Sudoku's symmetries: other digits, rows, columns, or turned over."""
    digits = np.array([0, *rng.sample(range(1, 10), 9)], np.int8)
    rows, columns = (
        [3 * band + line for band in _three(rng) for line in _three(rng)] for _ in "rc"
    )
    places = (np.array(rows)[:, None] * 9 + np.array(columns)).astype(np.int64)
    if rng.random() < 0.5:
        places = places.T
    places = places.reshape(-1)
    return digits[clues[places]], digits[solution[places]]


def _three(rng: random.Random) -> list[int]:
    return rng.sample(range(3), 3)


def revealed(rng: random.Random, clues: Grid, solution: Grid, count: int) -> Grid:
    """The puzzle with blanks filled in until it has `count` clues."""
    blanks = np.flatnonzero(clues == 0).tolist()
    shown = rng.sample(blanks, max(0, count - 81 + len(blanks)))
    grid = clues.copy()
    grid[shown] = solution[shown]
    return grid
