"""Jobs of rank 0: a server's engine and a chat, on several ranks and on one."""

import json
from typing import Any

import pytest
from job_tasks import served, talked
from ranks import results, run_ranks

from mlx_diffgemma.share.jobs import Jobs
from mlx_diffgemma.share.share import ALONE

DECISION = {
    "state": "It is down again.",
    "questions": {
        "urgent": {"type": "noul", "instructions": "Does this need a reply today?"},
        "team": {"type": "choice", "criteria": {"outage": None, "billing": None, "other": None}},
    },
    "samples": 3,
    "layout": "rows",
}
FIRST = [{"role": "user", "content": "What is 17 + 25?"}]
QUESTIONS: list[Any] = [
    ["chat", FIRST, {"max_denoising_steps": 3}],
    ["chat", [{"role": "user", "content": "Spell bread."}], {}, 2],
    ["decide", {**DECISION, "steps": 2}, {}],
    [
        "chat",
        [
            *FIRST,
            {"role": "assistant", "content": "17 + 25 = 42."},
            {"role": "user", "content": "And 3 + 4?"},
        ],
        {"max_denoising_steps": 3},
    ],
]
MORE: list[Any] = [
    ["complete", "The sky is", {"max_tokens": 4}],
    ["fill", "17 + 25 = [[4]].", {}],
    ["decide", {**DECISION, "think": 8, "samples": 1, "layout": "joint"}, {}],
    ["decide", {**DECISION, "samples": 1, "layout": "own"}, {}],
]
IN_AR: list[Any] = [
    ["chat", FIRST, {"mode": "ar"}],
    ["chat", [{"role": "user", "content": "Count from 3 to 9."}], {"mode": "ar"}, 4],
]
LINES: list[Any] = [
    ["set_system", "Be brief."],
    ["stop", "What is 17 + 25?", 1],
    ["ask", "Spell bread."],
    ["ask", ""],
    ["again", 5],
]
MORE_LINES: list[Any] = [["ask", "Is 12 bigger than 5?"], ["undo"], ["set_system", None]]


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def near(found: Any, right: Any, most: float) -> bool:
    """The same, with numbers that are no more than so much apart."""
    if isinstance(right, float) and isinstance(found, float):
        return abs(found - right) <= most
    if isinstance(right, dict) and isinstance(found, dict):
        return found.keys() == right.keys() and near([*found.values()], [*right.values()], most)
    if isinstance(right, list) and isinstance(found, list) and len(found) == len(right):
        return all(near(a, b, most) for a, b in zip(found, right, strict=True))
    return bool(found == right)


def require_together(ranks: int, cut: str, questions: list[Any], lines: list[Any]) -> None:
    """What one process answers is what rank 0 answers; all remember the same."""
    tasks = [
        ["served", {"cut": cut, "questions": questions}],
        ["talked", {"cut": cut, "lines": lines}],
    ]
    first, *others = results(run_ranks(ranks, "several", seconds=240.0, tasks=tasks))
    rounding = 1e-3 if cut == "tensor" else 0.0  # sums of parts are rounded otherwise
    assert near(first[0], as_json(served(ALONE, "rows", questions)), rounding), first[0]
    assert first[1] == as_json(talked(ALONE, "rows", lines))
    assert all(other == [[], first[1]] for other in others)


def test_two_ranks_serve_decide_and_chat_as_one_process_does() -> None:
    require_together(2, "rows", QUESTIONS, LINES)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "cut"), [(3, "layers"), (2, "tensor")])
def test_all_kinds_of_questions_are_answered_together(ranks: int, cut: str) -> None:
    require_together(ranks, cut, [*QUESTIONS, *MORE, *IN_AR], [*LINES, *MORE_LINES])


def test_one_process_ends_a_job_where_it_wants_to() -> None:
    jobs = Jobs(ALONE)
    assert jobs.wants_end(True)
    assert not jobs.wants_end()
    assert jobs.agreed(lambda: True)()
