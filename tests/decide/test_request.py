"""Requests: what the contract allows is read, and everything else is refused where it is wrong."""

import json
from typing import Any

import pytest
from wrong_requests import CHOICE, NOUL, SCORE, WRONG, body

import mlx_diffgemma as dg
from mlx_diffgemma.decide.options import Options
from mlx_diffgemma.decide.request import MOST_BYTES, read_request


def refused(value: Any) -> dg.RequestError:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(dg.RequestError) as caught:
        read_request(content)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("value", "location"), WRONG)
def test_what_is_wrong_is_refused_at_its_place(value: Any, location: tuple[str | int, ...]) -> None:
    error = refused(value)
    assert error.status == 422
    (told,) = error.body["detail"]
    assert told["loc"] == ["body", *location]
    assert told["msg"]
    assert told["type"]


def test_a_question_that_waits_for_itself_through_others_is_refused() -> None:
    a, b = ({**NOUL, "depends_on": [name]} for name in "ba")
    assert refused(body(questions={"a": a, "b": b, "c": NOUL})).location[:2] == ("questions", "a")


@pytest.mark.parametrize(
    ("kind", "wanted"), [(NOUL, ["maybe"]), (CHOICE, ["c"]), (SCORE, ["0"]), (CHOICE, [True])]
)
def test_a_condition_names_an_answer_that_can_come(kind: Any, wanted: list[Any]) -> None:
    questions = {"first": kind, "q": {**NOUL, "ask_if": {"first": wanted}}}
    assert refused(body(questions=questions)).location[2:4] == ("ask_if", "first")


@pytest.mark.parametrize(("kind", "wanted"), [(NOUL, ["no"]), (CHOICE, ["b"]), (SCORE, ["high"])])
def test_a_condition_may_name_any_answer(kind: Any, wanted: list[str]) -> None:
    questions = {"first": kind, "q": {**NOUL, "ask_if": {"first": wanted}}}
    assert read_request(body(questions=questions)).questions["q"].needs == ("first",)


def test_a_part_of_the_questions_is_asked_with_all_that_it_needs() -> None:
    questions = {"a": NOUL, "b": {**NOUL, "depends_on": ["a"]}, "c": NOUL}
    assert list(read_request(body(questions=questions, ask=["b", "a"])).questions) == ["a", "b"]
    assert "depends on" in str(refused(body(questions=questions, ask=["b"])))


def test_what_is_too_large_is_told_with_both_numbers() -> None:
    error = refused(b" " * (MOST_BYTES + 1))
    assert error.status == 413
    assert error.body["detail"]["error_type"] == "request_too_large"
    assert f"{MOST_BYTES:,}" in str(error)
    assert f"{MOST_BYTES + 1:,}" in str(error)


@pytest.mark.parametrize("name", ["ticket-1", "a:b", "with space", "질문", "🎯", "\x00", "x" * 999])
def test_any_id_with_some_text_is_an_id(name: str) -> None:
    assert list(read_request(body(questions={name: NOUL})).questions) == [name]


def test_a_twin_among_keys_is_named() -> None:
    assert "'ab'" in str(refused(b'{"state": "x", "questions": {"ab": {}, "ab": {}}}'))


@pytest.mark.parametrize("state", ["", "text", {"a": [1, None]}, ["é", 2.5]])
def test_a_state_is_text_or_json(state: Any) -> None:
    assert read_request(json.dumps(body(state=state)).encode()).state == state


def test_unknown_fields_are_listed_and_the_settings_kept() -> None:
    request = read_request(body(x_trace=1, sequential=True, samples="auto", layout="own"))
    assert request.ignored == ("x_trace", "sequential")
    assert request.options(samples=2, steps=None) == Options(samples=2, layout="own")


def test_questions_of_python_and_of_json_are_the_same() -> None:
    made = {
        "urgent": dg.Noul("Refund?", {"true": "they ask"}, alone=True),
        "team": dg.Choice("Who?", {"a": None, "b": {"owns": ["x"]}}, depends_on=["urgent"]),
        "tone": dg.Score("How?", ["low", "high"], ask_if={"urgent": ["yes"]}),
    }
    written = {name: each.to_json() for name, each in made.items()}
    read = read_request(body(questions=made)).questions
    assert read == read_request(json.dumps(body(questions=written)).encode()).questions
    assert read["team"] == dg.Choice("Who?", made["team"].criteria, depends_on=("urgent",))


@pytest.mark.parametrize("state", [{"a": {1, 2}}, [float("nan")], "\ud800", [object()]])
def test_what_json_has_not_is_refused_from_python_too(state: Any) -> None:
    with pytest.raises(dg.RequestError):
        read_request(body(state=state))


def test_a_list_in_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(dg.RequestError):
        read_request(body(state=state))


@pytest.mark.parametrize(("name", "value"), [("samples", 0), ("steps", 9), ("seed", 2**64)])
def test_a_setting_out_of_its_range_is_named(name: str, value: int) -> None:
    with pytest.raises(dg.SettingsError, match=f"^{name} is {value}, expected"):
        Options(**{name: value})
