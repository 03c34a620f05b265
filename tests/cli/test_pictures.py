"""A Sudoku in a picture through `generate --image` and `chat`."""

import json
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says

PICTURES = Path(__file__).parents[1] / "assets" / "data" / "pictures"
ENTRIES = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
SOLVE = ("generate", "--model", "tiny-sudoku", "--seed")


def rows(grid: str) -> str:
    return "\n".join(grid[start : start + 9] for start in range(0, 81, 9))


def test_the_grid_that_was_read_is_shown_before_the_answer(run: Any) -> None:
    done = run(*SOLVE, 7, "--image", PICTURES / "02-wide-480x432.png")
    assert (done.exit_code, done.stdout) == (0, rows(ENTRIES[1]["solution"]) + "\n")
    first, *lines = done.stderr.splitlines()
    assert_says(first, "read in the picture")
    assert lines[1] == "│ 2 1 · │ 4 3 5 │ · 8 · │"
    assert len(lines) == 13


def test_json_has_what_was_read(run: Any) -> None:
    done = run(*SOLVE, 7, "--json", "--image", PICTURES / "02-wide-480x432.png")
    reply = json.loads(done.stdout)
    assert reply["puzzle"] == rows(ENTRIES[1]["puzzle"].replace(".", "0"))
    assert reply["images"] == [{"tokens": 90, "width": 480, "height": 432}]
    assert "│ 2 1 · │ 4 3 5 │ · 8 · │" in done.stderr


def test_a_typed_puzzle_is_not_shown_again(run: Any) -> None:
    done = run(*SOLVE, 7, ENTRIES[1]["puzzle"])
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        ((ENTRIES[0]["puzzle"],), 1, "text ... picture"),
        (("--image", PICTURES / "02-wide-480x432.png"), 1, "2 pictures ... one"),
        (("--video", PICTURES / "02-wide-480x432.png"), 1, "video ... picture"),
        (("--image-tokens", 280), 2, "--image-tokens is 280, expected 99"),
    ],
    ids=["text", "two", "video", "tokens"],
)
def test_what_is_not_one_picture_is_one_line(
    run: Any, arguments: tuple[object, ...], code: int, facts: str
) -> None:
    done = run(*SOLVE, 7, "--image", PICTURES / "01-square.png", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert_says(done.stderr.strip(), "error:", facts)


def test_chat_solves_what_is_attached(run: Any) -> None:
    picture = PICTURES / "02-wide-480x432.png"
    done = run("chat", "--model", "tiny-sudoku", "--seed", 7, input=f"/image {picture}\n\n")
    assert done.exit_code == 0
    assert rows(ENTRIES[1]["solution"]) in done.stdout
    assert "read in the picture" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_every_picture_is_read_and_solved(run: Any, entry: dict[str, Any]) -> None:
    """With one of three seeds; the readings are the same with all."""
    for seed in (7, 1, 2):
        done = run(*SOLVE, seed, "--json", "--image", PICTURES / entry["file"])
        reply = json.loads(done.stdout)
        assert reply["puzzle"] == rows(entry["puzzle"].replace(".", "0"))
        if reply["text"] == rows(entry["solution"]):
            return
    pytest.fail("not solved")
