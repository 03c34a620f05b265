"""Calibration: temperatures come back from rows that were made with them, and count for these."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import fake_model
from test_layouts import ALL, asked

import mlx_diffgemma as dg
from mlx_diffgemma.decide.calibration import Bound, Calibration, Temperatures, read_calibration
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.fit import FOLDS, fitted, folds, out_of_fold
from mlx_diffgemma.decide.labelled import Case, read_labelled
from mlx_diffgemma.decide.options import Options
from mlx_diffgemma.decide.reliability import accuracy, bins, brier, ece, gate
from mlx_diffgemma.decide.request import read_request


def made(kind: str, true: Temperatures, counts: Sequence[int], rows: int = 200) -> list[Case]:
    """Cases whose answers are drawn from honest probabilities, told as if T were 1."""
    rng = np.random.default_rng(3)
    cases = []
    for number in range(rows):
        n = int(rng.choice(counts))
        logits = 1.5 * rng.normal(size=n)
        p = np.exp(logits) / np.exp(logits).sum()
        told = logits * true.of(kind, n)
        log_p = told - np.log(np.exp(told - told.max()).sum()) - told.max()
        cases.append(Case(kind, log_p, int(rng.choice(n, p=p)), str(number)))
    return cases


def raw(cases: Sequence[Case]) -> list[Any]:
    return [np.exp(case.log_p) for case in cases]


@pytest.mark.parametrize(
    ("kind", "true", "counts"),
    [
        ("noul", Temperatures(noul=3.0), [2]),
        ("score", Temperatures(score=1.8), [3, 5]),
        ("choice", Temperatures(choice=(4.0, -0.8)), [2, 3, 5, 8, 20]),
    ],
)
def test_a_known_temperature_is_found_and_lowers_the_error_out_of_fold(
    kind: str, true: Temperatures, counts: list[int]
) -> None:
    cases = made(kind, true, counts)
    found, after = fitted(cases), out_of_fold(cases)
    for n in counts:
        assert found.of(kind, n) == pytest.approx(true.of(kind, n), rel=0.35)
    assert ece(cases, after) < 0.6 * ece(cases, raw(cases))
    assert brier(cases, after) < brier(cases, raw(cases))
    assert accuracy(cases, after) == accuracy(cases, raw(cases))


def test_the_likeliest_option_stays_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    for value in (0.01, 0.3, 5.0, 100.0):
        temperatures = Temperatures(value, (value, 0.0), value)
        for kind in ("noul", "choice", "score"):
            log_p = np.log(rng.dirichlet(np.ones(5)))
            assert temperatures.applied(kind, log_p).argmax() == log_p.argmax()


def test_options_all_of_one_number_have_no_slope() -> None:
    cases = made("choice", Temperatures(choice=(2.0, 0.0)), [4])
    assert fitted(cases).choice == (pytest.approx(2.0, rel=0.3), 0.0)


def test_a_group_is_in_one_fold_and_folds_are_of_like_size() -> None:
    cases = [Case("noul", np.log([0.5, 0.5]), 0, str(number // 7)) for number in range(140)]
    fold = folds(cases)
    assert {(case.group, own) for case, own in zip(cases, fold, strict=True)} == {
        (str(number), fold[7 * number]) for number in range(20)
    }
    assert [fold.count(number) for number in range(FOLDS)] == [28] * FOLDS


def test_a_case_is_calibrated_by_the_others_alone() -> None:
    cases = made("noul", Temperatures(noul=3.0), [2], rows=60)
    other = [replace(cases[0], gold=1 - cases[0].gold), *cases[1:]]
    before, after = out_of_fold(cases), out_of_fold(other)
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert not moved[0]
    assert any(moved)


def test_measures_are_those_of_a_small_table() -> None:
    p = [np.array([0.9, 0.1]), np.array([0.9, 0.1]), np.array([0.35, 0.65]), np.array([0.5, 0.5])]
    gold = [0, 1, 1, 0]
    cases = [Case("noul", np.log(each), right, "") for each, right in zip(p, gold, strict=True)]
    table = [(each.low, each.count, each.claimed, each.right) for each in bins(cases, p)]
    assert table == [(0.5, 1, 0.5, 1.0), (0.6, 1, 0.65, 1.0), (0.9, 2, 0.9, 0.5)]
    assert ece(cases, p) == pytest.approx((0.5 + 0.35 + 2 * 0.4) / 4)
    assert brier(cases, p) == pytest.approx((0.02 + 1.62 + 0.245 + 0.5) / 4)
    assert accuracy(cases, p) == 0.75


def test_the_gate_is_the_smallest_that_is_right_often_enough() -> None:
    p = [np.array([each, 1 - each]) for each in (0.55, 0.6, 0.7, 0.8, 0.9)]
    gold = [1, 0, 1, 0, 0]
    cases = [Case("noul", np.log(each), right, "") for each, right in zip(p, gold, strict=True)]
    found = gate(cases, p, 1.0)
    assert found
    assert asdict(found) == {"confidence": 0.8, "accuracy": 1.0, "share": 0.4}
    assert gate(cases[:1], p[:1], 0.5) is None


ROW = {
    "state": "It is down.",
    "questions": {name: each.to_json() for name, each in ALL.items()},
}


@pytest.mark.parametrize(
    ("gold", "numbers"),
    [
        ({"urgent": True, "team": "billing", "tone": 1}, [0, 1, 1]),
        ({"urgent": "no", "team": "outage", "tone": "calm"}, [1, 0, 0]),
        ({"urgent": False}, [1]),
    ],
)
def test_gold_names_answers_as_people_write_them(gold: Any, numbers: list[int]) -> None:
    row = read_labelled({**ROW, "gold": gold})
    assert list(row.gold.values()) == numbers
    assert list(row.request.questions) == list(gold)
    assert row.group == "It is down."
    assert read_labelled({**ROW, "gold": gold, "group": "a"}).group == "a"


@pytest.mark.parametrize(
    "gold", [None, {}, [], {"other": 1}, {"urgent": 1}, {"team": "other"}, {"tone": 2}]
)
def test_gold_that_names_no_answer_is_refused(gold: Any) -> None:
    with pytest.raises(dg.RequestError) as caught:
        read_labelled({**ROW, "gold": gold})
    assert caught.value.location[0] == "gold"


def test_a_row_without_gold_misses_it() -> None:
    with pytest.raises(dg.RequestError, match="gold: missing, expected an object"):
        read_labelled({"state": "x", "questions": ROW["questions"]})


def calibration(**fields: Any) -> Calibration:
    bound = Bound.to(fake_model(), Options())
    measured: dict[str, Any] = {"all": {"before": 0.2, "after": 0.1}}
    line = Temperatures(2.0, (3.0, -0.5), None)
    return Calibration(replace(bound, **fields), line, {"noul": 60}, measured, measured)


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(calibration().to_json()))
    assert read_calibration(file) == calibration()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"version": 1}', "\xff", json.dumps({**calibration().to_json(), "rows": 3})],
)
def test_another_file_is_no_calibration(content: str, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(dg.DataError, match=r"calibration\.json"):
        read_calibration(file)


@pytest.mark.parametrize("value", ["hot", True, float("1e999"), [1], None, -3, 0, 20.1])
def test_a_temperature_that_no_fit_has_is_refused(value: Any, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({**calibration().to_json(), "temperatures": {"noul": value}}))
    with pytest.raises(dg.DataError):
        read_calibration(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("model", "another"),
        ("quantization", "4bit"),
        ("layout", "own"),
        ("steps", 2),
        ("think", 64),
    ],
)
def test_a_calibration_counts_for_what_it_was_fitted_on_alone(field: str, value: Any) -> None:
    made = calibration(**{field: value})
    with pytest.raises(dg.DataError, match=f"file: {field} is .*, and this decision's is"):
        made.require_for(fake_model(), Options(), "file")


def test_revision_and_samples_may_differ() -> None:
    calibration(revision="abc", samples=1).require_for(fake_model(), Options(), "file")


def test_an_answer_goes_through_the_temperature_of_its_type() -> None:
    request = read_request(ROW)
    plain = decide(request, fake_model())
    told = decide(request, fake_model(), calibration=calibration())
    assert told.read == plain.read
    for name, T in (("urgent", 2.0), ("team", 3.0 - 0.5 * np.log(2))):
        scaled = np.array(plain.read[name]) ** (1 / T)
        p = scaled / scaled.sum()
        answer = told.answers[name]
        found = answer["noul"] if name == "urgent" else answer["probabilities"]["outage"]
        assert found == pytest.approx(p[0], abs=1e-6)
    assert told.answers["tone"] == plain.answers["tone"]  # it was not fitted
    assert told.to_json()["x_calibration"] == {"applied": True, "types": ["noul", "choice"]}
    assert plain.to_json()["x_calibration"] == {"applied": False, "types": []}


def test_what_follows_an_answer_follows_the_calibrated_one() -> None:
    """The likeliest answer is the same, so that stages are."""
    questions = {**ALL, "last": dg.Noul("Last?", depends_on=["team"])}
    plain, _, _ = asked(questions, "own", samples=4)
    request = read_request({"state": "Everything is down.", "questions": questions})
    told = decide(request, fake_model(), Options(layout="own"), calibration())
    assert told.read["last"] == plain.read["last"]
