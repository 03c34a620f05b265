"""The contract, as others test it: jevcompat's judgement of an answer, and jevbench's cases.

tests/serve has what they test over HTTP.

A fake model answers, whose probabilities hang on every character in front of a slot: what has to be
the same is the same to the bit, or the tests see it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import fake_model

from mlx_diffgemma.decide.answers import choice_confidence, score_confidence
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.request import read_request

QUESTIONS = {
    "refund": {"type": "noul", "instructions": "Do they want a refund?"},
    "team": {
        "type": "choice",
        "instructions": "Who takes it?",
        "criteria": {"Billing": "money", "Technical": None},
    },
    "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "angry"]},
}


def test_answers_are_what_jevcompat_expects() -> None:
    from jevcompat.client import Response
    from jevcompat.validate import validate_success

    request = read_request({"state": "Refund me.", "questions": QUESTIONS})
    data = decide(request, fake_model()).to_json()
    response = Response(200, {"content-type": "application/json"}, b"", 0.0, data)
    assert validate_success({"questions": QUESTIONS}, response) == []
    data["answers"]["team"]["confidence"] += 0.1
    assert validate_success({"questions": QUESTIONS}, response)


def test_confidences_are_those_of_the_official_adapter() -> None:
    from jevcompat import validate

    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 10):
        for _ in range(20):
            p = [float(each) for each in rng.dirichlet(np.ones(n))]
            assert choice_confidence(p) == pytest.approx(validate.choice_confidence(p))
            assert score_confidence(p) == pytest.approx(validate.score_confidence(p))


@pytest.mark.slow
def test_jevbenchs_cases_are_answered_and_what_layout_own_promises_holds(tmp_path: Path) -> None:
    import jevbench.api

    model = fake_model()

    def ask(state: Any, questions: dict[str, Any]) -> Any:
        request = read_request({"state": state, "questions": questions})
        options = request.options(layout="own", samples=1)
        return decide(request, model, options).to_json()["answers"]

    backend = jevbench.api.from_callable(ask, "fake")
    report = jevbench.api.evaluate(backend, suite="examples", cache=str(tmp_path))
    scores = report.scores
    assert not report.errors
    assert scores["n_checks"] >= 50
    assert scores["pillars"]["BAT"] == 1.0
    for name in ("key_rename", "key_instruction_conflict", "duplicate_question"):
        assert scores["relations"][name] == 1.0
