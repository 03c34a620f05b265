"""The published definitions of passes, and the line where canvases take too many."""

from dataclasses import replace

import pytest
from facts import assert_says

from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.machine.identity import this_machine
from mlx_diffgemma.profile import passes
from mlx_diffgemma.profile.condition import Condition
from mlx_diffgemma.profile.measurement import Measurement
from mlx_diffgemma.profile.passes import (
    FULL_SIZE,
    MOST_EFFECTIVE_STEPS,
    effective_steps,
    tokens_per_forward,
    too_many_steps,
)
from mlx_diffgemma.profile.samples import AnswerRecord, CanvasRecord
from mlx_diffgemma.profile.workload import Workload, first_questions

TOO_MANY = MOST_EFFECTIVE_STEPS + 0.1


def test_commits_count_as_passes_but_the_last() -> None:
    answers = [[(256, 10), (256, 12), (100, 8)], [(50, 4)]]
    assert tokens_per_forward(answers) == (612 + 50) / ((30 + 2) + 4)
    assert tokens_per_forward([[(256, 16)]]) == 16


def test_steps_weigh_as_much_as_the_tokens_of_their_canvas() -> None:
    assert effective_steps([[(300, 10)], [(100, 30)]]) == 15
    assert effective_steps([[(256, 16), (256, 16)]]) == 16


@pytest.fixture
def large(sudoku: Session, monkeypatch: pytest.MonkeyPatch) -> Measurement:
    """An adaptive measurement that says of itself to be of a full-size model."""
    monkeypatch.setattr(passes, "subject_of", lambda session: "prompts")
    monkeypatch.setattr(sudoku, "info", replace(sudoku.info, parameters=FULL_SIZE))
    workload = Workload(steps=None)
    (question, *_) = first_questions(sudoku, workload)
    records = [AnswerRecord(question, 0.0, canvases=[CanvasRecord()] * 5)]
    calm = Condition(None, None, None)
    return Measurement(sudoku, "large", workload, this_machine(), calm, records)


def test_far_more_steps_than_published_are_said(large: Measurement) -> None:
    line = too_many_steps(large, 41.23)
    assert_says(line, "41.2 effective steps ... 9 to 17 ... 28 ... too coarsely ... selftest")
    assert too_many_steps(large, TOO_MANY) is not None
    for healthy in (3.7, 14.4, 17.1, MOST_EFFECTIVE_STEPS):
        assert too_many_steps(large, healthy) is None


def test_steps_that_say_nothing_are_not_said(
    large: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were asked for, few canvases, small models, and prompts of a task of their own."""
    assert too_many_steps(replace(large, workload=Workload(steps=48)), TOO_MANY) is None
    few = replace(large.records[0], canvases=[CanvasRecord()] * 4)
    assert too_many_steps(replace(large, records=[few]), TOO_MANY) is None
    monkeypatch.setattr(passes, "subject_of", lambda session: "chat")
    assert too_many_steps(large, TOO_MANY) is None
    monkeypatch.setattr(passes, "subject_of", lambda session: "prompts")
    small = replace(large.session.info, parameters=FULL_SIZE - 1)
    monkeypatch.setattr(large.session, "info", small)
    assert too_many_steps(large, TOO_MANY) is None
