"""Pictures of the 200 puzzles, rendered by scripts/render_sudokus.py."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL.Image import Image

ROOT = Path(__file__).parents[1]
CELLS = [10 * row + column for row in range(9) for column in range(9)]


@cache
def renderer() -> Any:
    """The script as a module."""
    path = ROOT / "scripts" / "render_sudokus.py"
    spec = importlib.util.spec_from_file_location("render_sudokus", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


def puzzles() -> list[str]:
    """The 200 puzzles of tests/assets, "0" for a blank."""
    entries = json.loads((ROOT / "tests/assets/data/puzzles.json").read_text(encoding="utf-8"))
    return [entry["puzzle"].replace(".", "0") for entry in entries]


def pictures(*, noisy: bool, seed: int = 1) -> Iterator[Image]:
    """A picture of each puzzle, in the fonts of this machine."""
    script = renderer()
    yield from script.random_pictures(puzzles(), seed, script.font_files(), noisy=noisy)
