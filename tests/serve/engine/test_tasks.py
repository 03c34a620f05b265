"""A checkpoint with a task: the last message is the problem, typed or in a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loaded_engines import SUDOKU, assistant, chat, done_of, engine_of, events_of, text_of

from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.refusal import Refusal

PICTURES = Path(__file__).parents[2] / "assets" / "data" / "pictures"
ENTRY = next(
    entry
    for entry in json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
    if entry["file"] == "05-dark-app.png"
)
IMAGE: dict[str, Any] = {"role": "user", "content": [{"type": "image"}]}


@pytest.fixture(scope="module")
def solving() -> LoadedEngine:
    """tiny-sudoku's engine."""
    return engine_of(SUDOKU)


def rows(grid: str) -> str:
    return "\n".join(grid[start : start + 9] for start in range(0, 81, 9))


def picture(name: str = ENTRY["file"]) -> bytes:
    return (PICTURES / name).read_bytes()


@pytest.mark.parametrize(
    ("message", "images"),
    [(ENTRY["puzzle"], ()), pytest.param(IMAGE, (picture(),), marks=pytest.mark.slow)],
    ids=["typed", "in a picture"],
)
def test_a_puzzle_is_solved(solving: LoadedEngine, message: Any, images: tuple[bytes, ...]) -> None:
    events = events_of(solving, chat(message, images=images, seed=7))
    assert text_of(events) == rows(ENTRY["solution"])
    assert (done_of(events).finish, done_of(events).warnings) == ("stop", ())


def test_pictures_of_earlier_messages_are_none_of_the_problem(solving: LoadedEngine) -> None:
    images = (picture("01-square.png"), picture())
    asked = chat(IMAGE, assistant("solved"), IMAGE, images=images)
    both, alone = (
        solving.prepare(each).question.checked.asked.images
        for each in (asked, chat(IMAGE, images=images[1:]))
    )
    assert [image.source for image in both] == [image.source for image in alone]
    typed = chat(IMAGE, assistant("solved"), ENTRY["puzzle"], images=images[:1])
    assert solving.prepare(typed).question.checked.asked.images == ()


def test_the_last_message_is_seen_alone_and_that_is_said(solving: LoadedEngine) -> None:
    system = {"role": "system", "content": "Be brief."}
    asked = chat(system, "hello", assistant("hi"), ENTRY["puzzle"], seed=7)
    assert solving.count(asked) == solving.count(chat(ENTRY["puzzle"]))
    events = events_of(solving, asked)
    assert text_of(events) == rows(ENTRY["solution"])
    assert "sees the last message alone, without 3 others" in done_of(events).warnings[0]


@pytest.mark.parametrize(
    ("messages", "others", "said"),
    [
        (["hello"], {}, "81"),
        ([IMAGE], {"images": (b"no picture",)}, "image"),
        (
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1"}]}],
            {"images": (picture(),)},
            "as text and as a picture",
        ),
        ([ENTRY["puzzle"]], {"mode": "ar"}, "diffusion.mode is ar"),
        ([IMAGE], {"images": (picture(),), "image_tokens": 70}, "diffusion.image_tokens is 70"),
    ],
)
def test_what_is_no_puzzle_is_refused_before_anything(
    solving: LoadedEngine, messages: list[Any], others: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        solving.prepare(chat(*messages, **others))
    assert refused.value.kind == "invalid"
    assert str(SUDOKU) not in str(refused.value)


def test_a_picture_without_a_puzzle_is_refused_where_it_is_read(solving: LoadedEngine) -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (300, 300), "white").save(file, "PNG")
    asked = solving.prepare(chat(IMAGE, images=(file.getvalue(),)))
    with pytest.raises(Refusal) as refused:
        list(solving.answer(asked, lambda: False))
    assert refused.value.kind == "invalid"


def test_a_wrong_solution_is_said(solving: LoadedEngine) -> None:
    done = done_of(events_of(solving, chat(ENTRY["puzzle"], max_denoising_steps=1, seed=1)))
    assert "does not solve the puzzle" in done.warnings[-1]
