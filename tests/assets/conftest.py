"""The 200 puzzles that tiny-sudoku never saw: 40 at each of 32, 36, 40, 45 and 50 clues."""

import json
from pathlib import Path

import pytest

Puzzle = dict[str, str]


@pytest.fixture(scope="session")
def puzzles() -> list[Puzzle]:
    text = (Path(__file__).parent / "data" / "puzzles.json").read_text(encoding="utf-8")
    return json.loads(text)
