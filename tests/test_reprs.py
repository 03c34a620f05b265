"""What a prompt of Python's shows of each public object: a line of facts, no arrays, no weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlx_diffgemma as dg

MOST_CHARACTERS = 110
ASKED = "Fill in: What is the opposite of early?"
BRIEFLY: Any = {"seed": 7, "max_denoising_steps": 2}


@pytest.fixture(scope="module")
def session() -> dg.Session:
    return dg.load("tiny-chat")


def image(tmp_path: Path) -> Any:
    from PIL import Image

    Image.new("RGB", (96, 48)).save(tmp_path / "a.png")
    return dg.prepare_image(tmp_path / "a.png", soft_tokens=4)


def test_a_session_tells_its_model_and_how_full_it_is(session: dg.Session) -> None:
    session.reset()
    assert repr(session) == "Session('tiny-chat', 0 messages, 0 of 2,048 positions)"
    session.ask("What is 17 + 25?", seed=7, max_tokens=64)
    assert repr(session) == "Session('tiny-chat', 2 messages, 25 of 2,048 positions)"
    assert repr(session.prefix) == "Prefix(25 tokens)"


def test_an_answer_tells_its_text_and_how_it_came(session: dg.Session) -> None:
    session.reset()
    turn = session.turn("What is 17 + 25?", seed=7)
    assert repr(turn) == "Turn('What is 17 + 25?', mode diffusion, seed 7, 0 tokens, not finished)"
    frames = [repr(frame) for frame in turn]
    assert frames[1].startswith("Frame(canvas 0, step 1, 64 of 64 accepted, 0.000")
    assert frames[2] == "Frame(canvas 0, step 1, 14 tokens, committed, stop)"
    assert repr(turn) == "Turn('What is 17 + 25?', mode diffusion, seed 7, 14 tokens, stop)"
    assert repr(turn.reply()) == "Reply('17 + 25 = 42.', 14 tokens, 2 steps, stop)"


def test_an_answer_token_by_token_has_no_steps(session: dg.Session) -> None:
    turn = session.turn("What is 17 + 25?", mode="ar", temperature=0, max_tokens=2, seed=7)
    assert [repr(frame) for frame in turn] == [
        "Frame(segment 0, token 0)",
        "Frame(segment 0, token 1)",
        "Frame(segment 0, token 1, 2 tokens, committed, length)",
    ]
    assert repr(turn.reply()) == "Reply('17', 2 tokens, mode ar, length)"


def test_a_template_is_told_by_names_of_its_own(session: dg.Session) -> None:
    turn = session.fill_turn("The opposite of early is [[6]].", prompt=ASKED, **BRIEFLY)
    assert repr(turn).startswith("FillTurn('Fill in: What is th... opposite of early?', ")
    frames = [repr(frame) for frame in turn]
    assert frames[0].startswith("FillFrame(canvas 0, step 0, ")
    assert " of 6 accepted, " in frames[0]
    shown = repr(turn.reply())
    assert shown.startswith("Filled('The opposite of early is late.', 1 hole, ")
    assert shown.endswith(" 2 steps, stop)")


def test_settings_show_what_was_chosen() -> None:
    assert repr(dg.Settings()) == "Settings()"
    chosen = dg.Settings(seed=7, stop=["\n"], mode="ar", temperature=0)
    assert repr(chosen) == r"Settings(seed=7, stop=('\n',), mode='ar', temperature=0)"
    assert eval(repr(chosen), {"Settings": dg.Settings}) == chosen


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (image, "Pixels(96 x 48 pixels, 2 soft tokens, 'a.png')"),
        (
            lambda at: dg.prepare_image(np.zeros((48, 48, 3), np.uint8), soft_tokens=1),
            "Pixels(48 x 48 pixels, 1 soft token)",
        ),
        (
            lambda at: dg.prepare_video([image(at), image(at)], soft_tokens=4),
            "Clip(2 frames, 4 soft tokens, 2 seconds)",
        ),
        (
            lambda at: dg.load_model("tiny-chat"),
            "Model(6 layers, hidden size 128, vocabulary 128, float32)",
        ),
        (lambda at: dg.CounterNoise(7), "CounterNoise(7)"),
    ],
)
def test_others_show_their_sizes(make: Callable[[Path], Any], shown: str, tmp_path: Path) -> None:
    assert repr(make(tmp_path)) == shown


def test_a_long_question_and_a_long_answer_stay_a_line(session: dg.Session) -> None:
    session.reset()
    turn = session.turn("What is 17 + 25?\n" * 6, seed=2**64 - 1, max_denoising_steps=1)
    for _ in turn:
        pass
    for shown in (repr(turn), repr(turn.reply()), repr(session)):
        assert len(shown) <= MOST_CHARACTERS
        assert "\n" not in shown
