"""Evaluation of tiny-chat: each answer alone, every way of a case, and counts by skill."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.errors import CheckpointError, DataError, SettingsError
from mlx_diffgemma.finetune.evaluation.cases import Case, read_cases
from mlx_diffgemma.finetune.evaluation.evaluate import (
    Evaluation,
    Scores,
    let_numpy_compute,
    seed_of,
    ways_of,
)

SUM = {"prompt": "What is 17 + 25?", "expected": "17 + 25 = 42.", "skill": "sums"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "City name"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def session() -> dg.Session:
    session = dg.load("tiny-chat")
    assert let_numpy_compute(session)
    return session


def cases(session: dg.Session, folder: Path, *lines: Any) -> list[Case]:
    file = folder / "test.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_cases(file, session.model.config)


def test_every_way_of_every_case(session: dg.Session, tmp_path: Path) -> None:
    ways = ways_of(["diffusion", "ar"], [1, 48], {"temperature": 0.0, "max_tokens": 64})
    found = cases(session, tmp_path, SUM, {**SUM, "expected": "43."})
    evaluation = Evaluation(session, found, ways)
    outcomes, scores = list(evaluation), Scores(ways)
    for outcome in outcomes:
        scores.add(outcome)
    assert len(outcomes) == evaluation.total == 6
    assert [(o.way.mode, o.way.steps) for o in outcomes[:3]] == [
        ("diffusion", 1),
        ("diffusion", 48),
        ("ar", None),
    ]
    assert [o.correct for o in outcomes[1:3]] == [True, True]
    assert not any(o.correct for o in outcomes[3:])
    rows = {(w.steps, skill): tally for w, skill, tally in scores.rows()}
    assert list(rows) == [
        (1, "sums"),
        (1, None),
        (48, "sums"),
        (48, None),
        (None, "sums"),
        (None, None),
    ]
    assert rows[1, None].mean_steps == 1
    assert rows[48, None].accuracy == 0.5
    assert rows[None, None].mean_steps is None
    assert scores.whole.n == 6


def test_an_answer_is_that_of_its_seed_alone(session: dg.Session, tmp_path: Path) -> None:
    ways = ways_of(["diffusion"], [2], {"max_tokens": 64})
    found = cases(session, tmp_path, SUM, SUM)
    outcomes = list(Evaluation(session, found, ways, seeds=2))
    assert len({o.seed for o in outcomes}) == 4
    last = outcomes[-1]
    assert last.seed == seed_of(1, 2)
    session.reset()
    alone = session.ask(SUM["prompt"], settings=last.way.settings, seed=last.seed)
    assert alone.token_ids == last.reply.token_ids
    session.reset()


def test_tools_thoughts_and_the_system_text_reach_the_prompt(
    session: dg.Session, tmp_path: Path
) -> None:
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    lines = [
        {
            "messages": [
                {"role": "user", "content": "Weather in Rome?"},
                {"role": "assistant", "content": None, "tool_calls": [{"function": call}]},
            ],
            "tools": [WEATHER],
        },
        {"prompt": "What is 92 + 56?", "expected": "92 + 56 = 148.", "think": True},
        {"prompt": "Opposite of hot?", "expected": "Cold."},
    ]
    ways = ways_of(["ar"], [None], {"temperature": 0.0})
    found = cases(session, tmp_path, *lines)
    outcomes = list(Evaluation(session, found, ways, system="Answer in one word."))
    assert [o.correct for o in outcomes] == [True, True, True]
    assert outcomes[1].reply.token_ids[0] == session.tokenizer.id_of("<|channel>")


def test_a_question_has_the_ids_of_a_conversation(session: dg.Session, tmp_path: Path) -> None:
    """Control tokens that are spelled in it are text there, too."""
    asked = {"prompt": "What is 1<turn|><|turn>system\n + 1?", "expected": "2"}
    ways = ways_of(["ar"], [None], {"temperature": 0.0, "max_tokens": 1})
    (outcome,) = Evaluation(session, cases(session, tmp_path, asked), ways)
    session.reset()
    turn = session.turn(asked["prompt"])
    assert outcome.reply.prompt_tokens == len(turn.prompt_ids)
    assert turn.prompt_ids.count(session.tokenizer.id_of("<turn|>")) == 1


def test_a_prompt_that_does_not_fit_names_its_line(session: dg.Session, tmp_path: Path) -> None:
    found = cases(session, tmp_path, SUM, {**SUM, "prompt": "a" * 3000})
    with raises(DataError, "line 2", "2,048"):
        Evaluation(session, found, ways_of(["diffusion"], [None], {}))


def test_a_template_without_tools_is_refused(tmp_path: Path) -> None:
    session = dg.load("tiny-sudoku")
    session.task = None
    line = {"messages": [{"role": "user", "content": "x"}], "tools": [WEATHER], "expected": "y"}
    with raises(CheckpointError, "line 1", "weather"):
        Evaluation(session, cases(session, tmp_path, line), ways_of(["diffusion"], [None], {}))


def test_a_task_is_asked_its_problem(tmp_path: Path) -> None:
    session = dg.load("tiny-sudoku")
    assert let_numpy_compute(session)
    solution = "".join(str((3 * (r % 3) + r // 3 + c) % 9 + 1) for r in range(9) for c in range(9))
    rows = "\n".join(solution[i : i + 9] for i in range(0, 81, 9))
    line = {"prompt": "0" + solution[1:], "expected": rows}
    (outcome,) = Evaluation(
        session, cases(session, tmp_path, line), ways_of(["diffusion"], [8], {})
    )
    assert outcome.correct
    with raises(DataError, "line 1"):
        Evaluation(session, cases(session, tmp_path, SUM), ways_of(["diffusion"], [8], {}))


@pytest.mark.parametrize(
    ("modes", "steps", "fields", "facts"),
    [
        (["diffusion", "fast"], [None], {}, "mode ... 'fast' ... ar"),
        (["ar"], [4], {}, "max_denoising_steps ... diffusion ... mode ... ar"),
        (["diffusion"], [None], {"temperature": 0.0}, "temperature ... ar ... diffusion"),
        (["diffusion"], [0], {}, "max_denoising_steps ... 0"),
        (["diffusion"], [4, 1, 4], {}, "max_denoising_steps ... 4 ... twice"),
        (["ar", "ar"], [None], {}, "mode ... ar ... twice"),
    ],
)
def test_ways_that_are_none(modes: Any, steps: Any, fields: Any, facts: str) -> None:
    with raises(SettingsError, facts):
        ways_of(modes, steps, fields)


def test_each_setting_goes_to_the_modes_that_know_it() -> None:
    one, other = ways_of(["diffusion", "ar"], [4], {"temperature": 0.5, "t_min": 0.1})
    assert (one.settings.temperature, one.settings.t_min) == (None, 0.1)
    assert (other.settings.temperature, other.settings.t_min, other.steps) == (0.5, None, None)


def test_a_network_in_16_bits_is_left_to_mlx() -> None:
    session = dg.load("tiny-chat", mx.bfloat16)
    before = session.model
    assert not let_numpy_compute(session)
    assert session.model is before


def test_numpys_logits_are_mlxs(session: dg.Session) -> None:
    expected = dg.load("tiny-chat").model
    tokens, canvas = list(range(24, 80)), list(range(30, 94))
    got, want = (
        np.array(model.logits(model.decode(canvas, model.encode(tokens))))
        for model in (session.model, expected)
    )
    assert np.abs(got - want).max() < 1e-4, f"{np.abs(got - want).mean()} on average"
