"""A Sudoku given as a picture: what is read, what is refused, and the answer to it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import assert_says, raises
from PIL import Image, ImageDraw

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.media import Given
from mlx_diffgemma.conversation.puzzle import read_puzzle
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import ImageError, PromptError, SettingsError
from mlx_diffgemma.images.pixels import Pixels

PICTURES = Path(__file__).parents[1] / "assets" / "data" / "pictures"
ENTRIES = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
NAMES = [entry["file"] for entry in ENTRIES]
SEED = dg.Settings(seed=7)


@pytest.fixture(scope="module")
def solver() -> Session:
    return dg.load("tiny-sudoku")


def rows(grid: str) -> str:
    return "\n".join(grid[start : start + 9] for start in range(0, 81, 9))


def entry(name: str) -> dict[str, Any]:
    found: dict[str, Any] = ENTRIES[NAMES.index(name)]
    return found


def read(session: Session, image: Any, prompt: str = "") -> str:
    task = session.task
    assert task
    return read_puzzle(session.model, session.tokenizer, task, prompt, Given(image))[1]


# The tower takes most of a second on a CPU.
@pytest.mark.parametrize(
    "name", [*NAMES[:5], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[5:])]
)
def test_a_picture_is_read_without_a_mistake(solver: Session, name: str) -> None:
    assert read(solver, PICTURES / name) == rows(entry(name)["puzzle"].replace(".", "0"))


def test_a_picture_is_solved(solver: Session) -> None:
    name = "05-dark-app.png"
    turn = solver.turn("", images=PICTURES / name, settings=SEED)
    assert turn.puzzle == rows(entry(name)["puzzle"].replace(".", "0"))
    assert list(turn)[-1].committed
    assert turn.problem() is None
    reply = turn.reply()
    assert (reply.text, reply.puzzle) == (rows(entry(name)["solution"]), turn.puzzle)
    (image,) = reply.images
    assert (image.tokens, image.width) == (90, entry(name)["width"])
    assert (reply.prompt_tokens, reply.finish_reason) == (98, "stop")
    assert solver.history == []


def test_a_picture_stands_where_the_digits_of_the_same_puzzle_do(solver: Session) -> None:
    ids = solver.turn("", images=PICTURES / "01-square.png").prompt_ids
    typed = solver.turn(entry("01-square.png")["puzzle"]).prompt_ids
    assert ids == [2, 4, 6, 14, *[26] * 90, 15, 4, 7, 10]
    assert len(ids) == len(typed)


@pytest.mark.parametrize("kind", ["array", "pixels"])
def test_an_image_in_memory_is_taken(solver: Session, kind: str) -> None:
    name = "01-square.png"
    given: Any = {
        "array": np.asarray(Image.open(PICTURES / name)),
        "pixels": solver.prepared(PICTURES / name)[0],
    }[kind]
    assert read(solver, given) == rows(entry(name)["puzzle"].replace(".", "0"))


def test_pixels_that_the_task_did_not_prepare_are_refused(solver: Session) -> None:
    pixels = dg.prepare_image(PICTURES / "04-margin.png", 99)
    assert isinstance(pixels, Pixels)
    with raises(PromptError, "81 soft tokens ... 90"):
        solver.turn("", images=pixels)


def grid_picture(text: str, font_size: int = 34) -> Image.Image:
    """A grid of thick lines with a text in each cell."""
    from PIL import ImageFont

    image, font = Image.new("RGB", (600, 600), "white"), ImageFont.load_default(font_size)
    pen = ImageDraw.Draw(image)
    for line in range(10):
        at, width = 30 + 60 * line, 5 if line % 3 == 0 else 1
        pen.line([(at, 30), (at, 570)], "black", width)
        pen.line([(30, at), (570, at)], "black", width)
    for cell, character in enumerate(text):
        place = 60 + cell % 9 * 60, 60 + cell // 9 * 60
        pen.text(place, character, "black", font, anchor="mm")
    return image


def scenery() -> Image.Image:
    """Hills under a sky, blurred and grainy like a photo."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:480, 0:640]
    hills = y > 260 + 60 * np.sin(x / 70) + 30 * np.sin(x / 23)
    image = np.where(hills[..., None], (70, 110, 50), (120, 170, 230)) * (1 - y[..., None] / 1200)
    return Image.fromarray((image + rng.normal(0, 12, (480, 640, 3))).clip(0, 255).astype(np.uint8))


def noise() -> Image.Image:
    colours = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    return Image.fromarray(colours)


def page() -> Image.Image:
    """A page of text."""
    image = Image.new("RGB", (600, 800), "white")
    for line in range(30):
        ImageDraw.Draw(image).text((40, 30 + 24 * line), "the quick brown fox jumps " * 3, "black")
    return image


@pytest.mark.parametrize(
    ("image", "facts"),
    [
        (Image.new("RGB", (600, 500), "white"), "0 digits ... 17"),
        (Image.new("RGB", (3, 3), "black"), "17 ... crop"),
        (scenery(), "Sudoku ... picture ... crop ... type"),
        (noise(), "Sudoku ... picture ... crop ... type"),
        (page(), "Sudoku ... picture ... crop ... type"),
        (grid_picture(" " * 81), "0 digits in 81 cells ... 17"),
        (grid_picture("ACEGHKMRSTUWXYZ" * 6), "of 81 cells ... no digit ... 8"),
    ],
    ids=["plain", "tiny", "scenery", "noise", "page", "blank-grid", "letters"],
)
def test_a_picture_without_a_grid_is_refused(
    solver: Session, image: Image.Image, facts: str
) -> None:
    with raises(PromptError, facts):
        solver.ask("", images=image)


def test_a_clash_is_refused_with_its_place_and_the_reading(solver: Session) -> None:
    """A blank cell of the first row is painted over with a given of it."""
    name, puzzle = "01-square.png", entry("01-square.png")["puzzle"]
    image = Image.open(PICTURES / name)
    given = next(i for i in range(9) if puzzle[i] != ".")
    blank = next(i for i in range(9) if puzzle[i] == ".")
    image.paste(image.crop((48 * given + 4, 4, 48 * given + 44, 44)), (48 * blank + 4, 4))
    wrong = puzzle[:blank] + puzzle[given] + puzzle[blank + 1 :]
    columns = " and ".join(str(1 + i) for i in sorted((given, blank)))
    facts = f"read as ... {wrong} ... row 1 has two {puzzle[given]}s (columns {columns})"
    with raises(PromptError, facts):
        solver.ask("", images=image)


@pytest.mark.parametrize(
    ("prompt", "options", "kind", "facts"),
    [
        ("." * 81, {"images": PICTURES / NAMES[0]}, PromptError, "text ... picture"),
        ("solve", {"images": PICTURES / NAMES[0]}, PromptError, "text ... picture"),
        ("", {"images": [PICTURES / n for n in NAMES[:2]]}, PromptError, "2 pictures ... one"),
        ("", {"video": [PICTURES / NAMES[0]]}, PromptError, "video ... one picture"),
        (
            "",
            {"images": PICTURES / NAMES[0], "image_tokens": 280},
            SettingsError,
            "image_tokens is 280, expected 99",
        ),
        ("", {"images": PICTURES / "pictures.json"}, ImageError, "pictures.json"),
    ],
    ids=["text", "words", "two", "video", "tokens", "no-image"],
)
def test_what_is_not_one_picture_is_refused(
    solver: Session, prompt: str, options: dict[str, Any], kind: type[Exception], facts: str
) -> None:
    with raises(kind, facts):
        solver.turn(prompt, **options)


def test_the_checkpoints_own_number_of_soft_tokens_may_be_named(solver: Session) -> None:
    assert solver.turn("", images=PICTURES / NAMES[0], image_tokens=99).puzzle


def test_a_template_takes_no_picture(solver: Session) -> None:
    with raises(PromptError, "template ... no image"):
        solver.fill_turn(entry(NAMES[0])["puzzle"], images=PICTURES / NAMES[0])


def test_an_answer_is_held_against_what_was_read(solver: Session) -> None:
    turn = solver.turn("", images=PICTURES / NAMES[0], settings=replace(SEED, max_tokens=12))
    list(turn)
    assert_says(turn.problem(), "11 digits ... 81")
