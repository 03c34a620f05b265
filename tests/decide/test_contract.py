"""The contract, as others test it: jevcompat's requirements, TypeSafe's client, jevbench's cases.

A fake model answers, whose probabilities hang on every character in front of a slot: what has to be
the same is the same to the bit, or the tests see it.
"""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import fake_model
from serving import served

from mlx_diffgemma.decide.answers import choice_confidence, score_confidence
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.request import read_request

KEYS = {"auth.bearer", "auth.missing", "auth.invalid"}
"""Requirements of a server with a key."""

TOGETHER = {"semantics.batching", "semantics.question-order"}
"""What a shared prompt cannot promise."""

QUESTIONS = {
    "refund": {"type": "noul", "instructions": "Do they want a refund?"},
    "team": {
        "type": "choice",
        "instructions": "Who takes it?",
        "criteria": {"Billing": "money", "Technical": None},
    },
    "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "angry"]},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "failing"), [("own", set()), ("joint", TOGETHER), ("rows", TOGETHER)]
)
def test_every_requirement_is_met(layout: str, failing: set[str]) -> None:
    from jevcompat import runner

    with served(fake_model(), layout) as url:
        report = runner.run(url)
    assert report.verdict == "conformant"
    failed = {each.id: each.findings for each in report.results if each.status == "fail"}
    assert failed.keys() == failing, failed
    assert {each.id for each in report.results if each.status == "skip"} == KEYS


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
def test_typesafes_client_reads_every_answer() -> None:
    from typesafe_sdk import AsyncTypeSafeClient, Choice, Noul, Score, TypeSafeClient

    asked: dict[str, Any] = {
        "refund": Noul(instructions="Do they want a refund?"),
        "team": Choice(instructions="Who?", criteria={"Billing": "money", "Technical": None}),
        "anger": Score(instructions="How angry?", criteria=["calm", "angry"]),
    }

    async def at_once(url: str) -> Any:
        async with AsyncTypeSafeClient(api_key="none", base_url=url) as client:
            return await client.system_one(state={"text": "Refund me."}, questions=asked)

    with served(fake_model(), "joint") as url:
        with TypeSafeClient(api_key="none", base_url=url) as client:
            found = client.system_one(state={"text": "Refund me."}, questions=asked)
        again = asyncio.run(at_once(url))
    assert 0 <= found.nouls["refund"].noul <= 1
    assert found.choices["team"].choice in ("Billing", "Technical")
    assert sum(found.scores["anger"].probabilities.values()) == pytest.approx(1)
    assert again.nouls["refund"].noul == found.nouls["refund"].noul


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
