"""Holes with names: their texts match, stand in the reply by name, and are refused by name."""

import re
from pathlib import Path
from typing import Any

import pytest
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import ConstraintError, SettingsError

QUICK = dg.Settings(seed=5, max_denoising_steps=2)


@pytest.mark.parametrize("gaps", [5, [5, 7]])
def test_random_weights_fill_every_name_with_what_matches(session: Session, gaps: Any) -> None:
    """Canvases of 8: the second hole is settled a part at a time."""
    source = "On [[year:[12][0-9]{3}]] and [[3]] then [[what:[a-f]+|#{5}]], to the letter."
    filled = session.fill(source, settings=QUICK, gaps=gaps)
    assert list(filled.fields) == ["year", "what"]
    assert re.fullmatch("[12][0-9]{3}", filled.fields["year"])
    assert re.fullmatch("[a-f]+|#{5}", filled.fields["what"])
    year, free, what = filled.holes
    assert filled.fields == {"year": year, "what": what}
    assert filled.text == f"On {year} and {free} then {what}, to the letter."
    told = filled.constraint
    assert told is not None
    assert (told.kind, told.canvases) == ("pattern", filled.canvases)
    assert told.strain is not None
    assert told.strain > 0


def test_a_template_without_names_has_no_fields_and_no_form(session: Session) -> None:
    filled = session.fill("a [[3]]", settings=QUICK)
    assert (filled.fields, filled.constraint) == ({}, None)


def test_tiny_chat_writes_what_it_would_write() -> None:
    chat = dg.load("tiny-chat")
    asked = "Fill in: What is the opposite of early?"
    filled = chat.fill("The opposite of early is [[word:[a-z]+]].", prompt=asked, gaps=4, seed=7)
    assert filled.fields == {"word": "late"}
    assert filled.constraint is not None
    assert filled.constraint.strain is not None
    assert filled.constraint.strain < 0.01


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("a\n[[year:[0-9]{4}]]", "hole year in line 2 has 3 tokens ... takes 4 ... gaps"),
        ("[[x:(?=a)b]]", "hole x in line 1 ... look-around"),
        ("[[x:a{3,1}]]", "hole x in line 1"),
        ("\n\n[[x:é]]", "hole x in line 3 ... 'é'"),
    ],
)
def test_a_hole_that_no_text_fits_is_refused_by_name(
    session: Session, source: str, facts: str
) -> None:
    with raises(ConstraintError, facts):
        session.fill_turn(source, gaps=3)
    assert session.history == []


def test_gaps_without_a_hole_that_takes_them_are_refused(session: Session) -> None:
    with raises(SettingsError, "gaps ... no [[...]]"):
        session.fill_turn("[[3]]", gaps=3)


def test_a_name_in_a_file_of_text_can_be_kept(folder: Path) -> None:
    session = dg.load(folder)
    assert session.fill(r"\[[File:x.png]] [[1]]", settings=QUICK).text.startswith("[[File:x.png]]")
