"""Samples, orders of options and the labels' share: what is read, and how it is averaged."""

from typing import Any, cast

import numpy as np
import pytest
from fakes import FakeReader, fake_model
from test_layouts import TEAM, TONE, URGENT, asked

import mlx_diffgemma as dg
from mlx_diffgemma.decide.reader import Reading
from mlx_diffgemma.errors import NumericsError


def test_samples_have_seeds_of_their_own_and_are_averaged() -> None:
    decision, reader, _ = asked({"q": TEAM}, "joint", samples=3, seed=7)
    assert reader.options[0].seeds == (7, 7926, 15845)
    each = [asked({"q": TEAM}, "joint", samples=1, seed=seed)[0] for seed in (7, 7926, 15845)]
    mean = np.mean([one.read["q"] for one in each], axis=0)
    assert decision.read["q"] == pytest.approx(mean)
    assert decision.samples == 3


def test_seeds_stay_within_64_bits() -> None:
    _, reader, _ = asked({"q": TEAM}, "joint", samples=2, seed=2**64 - 1)
    assert reader.options[0].seeds == (2**64 - 1, 7918)


def unsure_of(questions: dict[str, Any], layout: str, **options: Any) -> FakeReader:
    """The reader behind a decision with samples auto, unsure of scales alone."""
    model = fake_model()
    reader = cast(FakeReader, model.reader)
    usual = reader._row

    def row(prompt: Any, sheet: Any, at: int, seed: int) -> Any:
        found = usual(prompt, sheet, at, seed)
        p = np.full(len(found), 1 / len(found))
        if len(found) != 2:
            return np.log(p)
        return np.log([0.999, 0.001])

    reader._row = row  # type: ignore[method-assign]
    asked(questions, layout, model, samples="auto", **options)
    return reader


SURE, UNSURE = URGENT, dg.Score("?", ["a", "b", "c"])


def test_auto_reads_once_what_is_sure_and_more_of_what_is_not() -> None:
    assert [each.seeds for each in unsure_of({"q": SURE}, "joint").options] == [(42,)]
    again = unsure_of({"q": UNSURE}, "joint").options
    assert [each.seeds for each in again] == [(42,), (7961, 15880, 23799)]
    assert len(unsure_of({"q": UNSURE}, "joint", auto_max=1).options) == 1
    assert len(unsure_of({"q": UNSURE}, "joint", auto_threshold=2).options) == 1


@pytest.mark.parametrize(("layout", "again"), [("joint", [1, 1]), ("rows", [2, 1])])
def test_one_unsure_question_costs_another_canvas_nothing(layout: str, again: list[int]) -> None:
    reader = unsure_of({"a": SURE, "b": UNSURE}, layout)
    sheets = iter(reader.sheets)
    counts = [len([next(sheets) for _ in range(n)]) for n in again]
    assert counts == again
    assert len(reader.options) == 2


def test_orders_put_other_options_first_and_count_the_same() -> None:
    choice = dg.Choice("Which?", {"a": None, "b": None, "c": None})
    decision, reader, texts = asked({"q": choice}, "own", orders=2, samples=2)
    shown = [texts.text(prompt.ids).partition("Question 1")[2] for prompt in reader.prompts]
    assert [each.split()[1:7] for each in shown] == [
        ["Which?", "A:", "a", "B:", "b", "C:"],
        ["Which?", "A:", "b", "B:", "c", "C:"],
    ]
    answer = decision.answers["q"]
    assert answer["x_orders"] == 2
    one = asked({"q": choice}, "own", samples=2)[0].read["q"]
    turned = dg.Choice("Which?", {"b": None, "c": None, "a": None})
    other = asked({"q": turned}, "own", samples=2)[0].read["q"]
    mean = (np.array(one) + np.array([other[2], other[0], other[1]])) / 2
    assert decision.read["q"] == pytest.approx(mean)


def test_a_question_has_no_more_orders_than_options() -> None:
    for layout in ("joint", "own"):
        decision, _, _ = asked({"t": TEAM, "u": URGENT, "s": TONE}, layout, orders=8)
        assert decision.answers["t"]["x_orders"] == 2
        assert decision.answers["u"]["x_orders"] == decision.answers["s"]["x_orders"] == 1


def test_the_labels_share_is_told_where_it_is_asked_for() -> None:
    told, reader, _ = asked({"q": TEAM}, "joint", label_mass=True, samples=2)
    assert told.answers["q"]["x_label_mass"] == 0.5
    assert reader.options[0].mass
    assert asked({"q": TEAM}, "joint")[0].answers["q"]["x_label_mass"] is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_probability_that_is_no_number_is_an_error_and_no_answer(wrong: float) -> None:
    model = fake_model()

    def read(prompt: Any, sheets: Any, options: Any) -> list[Reading]:
        return [Reading((np.array([[wrong, 0.0]]),))]

    model.reader.read = read  # type: ignore[method-assign]
    with pytest.raises(NumericsError, match="'urgent'"):
        asked({"urgent": URGENT}, "joint", model)
