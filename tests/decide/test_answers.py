"""Answers: the contract's fields and formulas, computed from the numbers that are told."""

import numpy as np
import pytest
from fakes import fake_model

from mlx_diffgemma.decide.answers import (
    Sampled,
    Seen,
    answer_of,
    choice_confidence,
    hesitation,
    likeliest,
    rounded,
    score_confidence,
)
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.questions import Choice, Noul, Score
from mlx_diffgemma.decide.request import read_request

ABC = Choice("Which?", {"a": None, "b": None, "c": None})
LEVELS = Score("How much?", ["none", {"some": 1}, "all"])


def seen(*rows: list[float]) -> Seen:
    return Seen((Sampled(np.array(rows)),))


def test_rounded_probabilities_sum_to_one_exactly() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 10, 255):
        for _ in range(20):
            units = rounded(rng.dirichlet(np.full(n, 0.3)))
            assert sum(units) == 1_000_000
            assert min(units) >= 0


def test_a_third_each_is_told_with_the_first_one_ahead() -> None:
    p = np.full(3, 1 / 3)
    answer = answer_of(ABC, p, seen(list(p)))
    assert answer["probabilities"] == {"a": 0.333334, "b": 0.333333, "c": 0.333333}
    assert answer["choice"] == "a"


def test_equal_options_give_the_first() -> None:
    p = np.array([0.2, 0.4, 0.4])
    assert answer_of(ABC, p, seen(list(p)))["choice"] == "b"
    half = answer_of(Noul("?"), np.array([0.5, 0.5]), seen([0.5, 0.5]))
    assert half["noul"] == 0.5
    assert likeliest(Noul("?"), half) == 0


def test_a_score_is_the_mean_of_its_rounded_levels() -> None:
    p = np.array([0.1234567, 0.3, 0.5765433])
    answer = answer_of(LEVELS, p, seen(list(p)))
    told = list(answer["probabilities"].values())
    assert list(answer["probabilities"]) == ["0", "1", "2"]
    assert answer["legend"] == {"0": "none", "1": {"some": 1}, "2": "all"}
    assert answer["score"] == round(told[1] + 2 * told[2], 6)
    assert answer["confidence"] == round(score_confidence(told), 6)


def test_confidences_are_those_of_the_contract() -> None:
    assert choice_confidence([0.4, 0.3, 0.3]) == pytest.approx((0.4 - 1 / 3) / (2 / 3))
    assert choice_confidence([1.0]) == score_confidence([1.0]) == 1.0
    # U of three levels is 2/3: a distance of 0.5 from the middle leaves a quarter.
    assert score_confidence([0.25, 0.5, 0.25]) == pytest.approx(0.25)
    assert score_confidence([0.5, 0.0, 0.5]) == 0.0  # 1 - 1/(2/3) is negative


def test_hesitation_is_entropy_from_none_to_all() -> None:
    assert hesitation([1.0]) == hesitation([1.0, 0.0]) == 0.0
    assert hesitation([0.25] * 4) == pytest.approx(1.0)
    assert hesitation([0.5, 0.5, 0, 0]) == pytest.approx(0.5)


def test_samples_tell_their_spread_and_their_agreement() -> None:
    both = seen([0.9, 0.1], [0.3, 0.7])
    answer = answer_of(Noul("?"), both.mean, both)
    assert answer["noul"] == 0.6
    assert answer["x_stderr"] == pytest.approx(0.3)  # of 0.9 and 0.3: deviation 0.424, over root 2
    assert answer["x_agreement"] == 0.5
    assert answer_of(Noul("?"), both.mean, seen([0.6, 0.4]))["x_stderr"] is None


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (
            {"type": "choice", "criteria": {"": None}},
            {"choice": "", "probabilities": {"": 1.0}, "confidence": 1.0},
        ),
        (
            {"type": "score", "criteria": ["calm"]},
            {
                "score": 0.0,
                "legend": {"0": "calm"},
                "probabilities": {"0": 1.0},
                "confidence": 1.0,
            },
        ),
    ],
)
def test_a_single_answer_needs_no_model(question: object, told: dict[str, object]) -> None:
    model = fake_model()
    decision = decide(read_request({"state": "x", "questions": {"q": question}}), model)
    assert decision.answers["q"].items() >= told.items()
    assert decision.answers["q"]["x_orders"] == 0
    assert decision.usage.input_tokens == model.reader.encoded() == 0
