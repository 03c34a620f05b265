"""Stages: questions that wait for others, that are not asked, and thoughts before all of them."""

from typing import Any

import pytest
from fakes import fake_model
from test_layouts import asked

import mlx_diffgemma as dg
from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.options import Options
from mlx_diffgemma.decide.request import read_request

FIRST = dg.Noul("First?")
SECOND = dg.Choice("Second?", {"a": None, "b": None}, depends_on=["first"])
LEVELS = dg.Score("Levels?", ["low", {"some": "more"}])


def test_joint_continues_the_answers_that_are_known() -> None:
    decision, reader, texts = asked({"second": SECOND, "first": FIRST}, "joint")
    first, second = (texts.text(prompt.ids) for prompt in reader.prompts)
    said = "yes" if decision.answers["first"]["noul"] >= 0.5 else "no"
    assert second == f"{first}<|channel>thought\n<channel|>2: {said}"
    canvases = [texts.text(sheet.tokens).replace("<pad>", "") for sheet in reader.sheets]
    assert canvases == ["<|channel>thought\n<channel|>2: yes<turn|>", "\n1: A<turn|>"]
    assert list(decision.answers) == ["second", "first"]


def test_own_says_only_the_answers_that_a_question_needs() -> None:
    questions = {"first": FIRST, "levels": LEVELS, "other": FIRST}
    last = dg.Noul("Last?", depends_on=["levels", "first"])
    decision, reader, texts = asked({**questions, "last": last}, "own")
    said = "yes" if decision.answers["first"]["noul"] >= 0.5 else "no"
    level = "low" if decision.answers["levels"]["score"] < 0.5 else '{"some": "more"}'
    text = texts.text(reader.prompts[-1].ids)
    known = f"\n\nAnswers so far:\nLevels?: {level}\nFirst?: {said}\n\nQuestion 1: Last?\n"
    assert known in text
    fewer = {name: each for name, each in questions.items() if name != "other"}
    assert asked({**fewer, "last": last}, "own")[0].answers["last"] == decision.answers["last"]


def noul(instructions: str, wanted: str) -> dg.Noul:
    """A question that the fake model answers in this way."""
    for number in range(99):
        question = dg.Noul(f"{instructions} {number}")
        p = asked({"q": question}, "own")[0].answers["q"]["noul"]
        if (p >= 0.5) == (wanted == "yes"):
            return question
    raise AssertionError(wanted)


def test_a_question_that_a_condition_rules_out_is_skipped_with_its_reason() -> None:
    questions: dict[str, Any] = {
        "gate": noul("Gate?", "no"),
        "behind": dg.Noul("Behind?", ask_if={"gate": ["yes"]}),
        "last": dg.Noul("Last?", ask_if={"behind": ["yes", "no"]}),
        "other": dg.Noul("Other?", ask_if={"gate": ["no"]}),
    }
    decision, reader, _ = asked(questions, "own")
    assert decision.answers["behind"] == {
        "type": "x_skipped",
        "x_because": "gate",
        "x_was": "no",
    }
    assert decision.answers["last"] == {
        "type": "x_skipped",
        "x_because": "behind",
        "x_was": None,
    }
    assert decision.answers["other"]["type"] == "noul"
    assert len(reader.prompts) == 2


@pytest.mark.parametrize("layout", ["joint", "rows", "own"])
def test_a_question_that_depends_on_a_skipped_one_is_asked_without_it(layout: str) -> None:
    kinds = set()
    for number in range(9):
        questions = {
            "gate": dg.Noul(f"Gate {number}?"),
            "behind": dg.Noul("Behind?", ask_if={"gate": ["yes"]}),
            "last": dg.Noul("Last?", depends_on=["behind"]),
        }
        decision, _, _ = asked(questions, layout)
        assert decision.answers["last"]["type"] == "noul"
        kinds.add(decision.answers["behind"]["type"])
    assert kinds == {"noul", "x_skipped"}


@pytest.mark.parametrize("layout", ["joint", "rows", "own"])
def test_a_forced_answer_opens_what_waits_for_it(layout: str) -> None:
    questions = {
        "only": dg.Choice("Only?", {"one": None}),
        "behind": dg.Noul("Behind?", ask_if={"only": ["one"]}),
    }
    decision, _, _ = asked(questions, layout)
    assert decision.answers["behind"]["type"] == "noul"


def test_a_thought_is_written_once_and_read_behind() -> None:
    decision, reader, texts = asked({"second": SECOND, "first": FIRST}, "joint", think=3)
    (before,) = reader.thoughts
    assert "<|think|>" in before
    assert before.endswith("<|turn>model\n<|channel>thought\n")
    assert texts.text(reader.prompts[0].ids) == f"{before}well so it<channel|>"
    assert texts.text(reader.sheets[0].tokens).startswith("2: yes<turn|>")
    assert decision.usage.output_tokens == 3


def test_in_own_every_question_has_a_thought_of_its_own() -> None:
    decision, reader, _ = asked({"a": FIRST, "b": LEVELS}, "own", think=2)
    assert len(reader.thoughts) == 2
    assert decision.usage.output_tokens == 4


def test_a_thought_needs_room_and_a_model_that_has_some() -> None:
    with pytest.raises(dg.RequestError, match="fake-1 has no thoughts"):
        asked({"a": FIRST}, "joint", fake_model(thought=None), think=8)
    with pytest.raises(dg.RequestError, match="context has 4,000"):
        asked({"a": FIRST}, "joint", fake_model(context_length=4000), think=4000)


def test_another_models_name_is_refused_with_those_that_are_known() -> None:
    model = fake_model()
    for name in ("jev-latest", "jev-preview", "fake-1"):
        request = read_request({"model": name, "state": "x", "questions": {"q": FIRST}})
        assert decide(request, model, Options(samples=1)).model == "fake-1"
    request = read_request({"model": "jev-1.13.0", "state": "x", "questions": {"q": FIRST}})
    with pytest.raises(dg.RequestError, match="fake-1, jev-latest") as caught:
        decide(request, model)
    assert caught.value.status == 400
    assert caught.value.body["detail"]["error_type"] == "api_usage_error"


def test_the_same_request_gives_the_same_bytes() -> None:
    both = [asked({"first": FIRST, "second": SECOND}, "rows", samples=4)[0] for _ in range(2)]
    assert both[0].to_json() == both[1].to_json()
