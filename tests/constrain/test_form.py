"""Forms: what is asked for, the fence around JSON, control tokens, and what cannot be written."""

import json
from typing import Any

import pytest
from facts import raises
from random_schemas import SCHEMAS
from schema_patterns import schema_pattern
from walks import text_of, walks

from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.form import Form, compiled, ending, form_of, stripped
from mlx_diffgemma.constrain.machine import Channel, Machine
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.constrain.vocabulary import Vocabulary
from mlx_diffgemma.errors import ConstraintError, Setting

ASCII = vocabulary_of([None, None, *(bytes((b,)) for b in range(32, 127)), b"\n"])
BYTES = vocabulary_of([None, None, *(bytes((b,)) for b in range(256))])


def form(**asked: Any) -> Form:
    made = form_of(**asked)
    assert made is not None
    return made


def machine(made: Form, vocabulary: Vocabulary = BYTES) -> Machine:
    return compiled(made, vocabulary, (1,), (0, 1))


def test_no_form_is_asked_for() -> None:
    assert form_of() is None


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        ({"schema": {}, "pattern": "a"}, "schema and pattern"),
        ({"pattern": "a", "choices": ["a"]}, "pattern and choices"),
        ({"schema": {}, "pattern": "a", "choices": ["a"]}, "schema and pattern"),
        ({"pattern": 3}, "pattern ... 3"),
        ({"pattern": "\ud800"}, "U+D800 ... 0"),
        ({"choices": []}, "choices are [] ... list"),
        ({"choices": "abc"}, "choices are 'abc' ... list"),
        ({"choices": 3}, "choices are 3 ... list"),
        ({"choices": ["a", ""]}, "choice 2 is empty"),
        ({"choices": ["a", "b", "a"]}, "choices 1 and 3 ... 'a'"),
        ({"choices": ["a", 3]}, "choice 2 is 3"),
        ({"choices": ["\ud800"]}, "choice 1 ... U+D800"),
        ({"schema": 3}, "# is 3"),
        ({"schema": False}, "# is False"),
        ({"schema": {"default": {1, 2}}}, "schema ... JSON"),
    ],
)
def test_what_is_no_form_is_refused(asked: dict[str, Any], facts: str) -> None:
    with raises(ConstraintError, facts):
        form_of(**asked)


def test_a_refusal_names_settings_as_settings() -> None:
    with pytest.raises(ConstraintError) as caught:
        form_of(schema={}, choices=["a"])
    assert [part for part in caught.value.args if isinstance(part, Setting)] == [
        "schema",
        "choices",
    ]


def test_forms_are_equal_where_the_request_is() -> None:
    assert form(schema={"type": "null"}) == form(schema={"type": "null"})
    assert form(pattern="a") != form(choices=["a"])
    members = {"a": {"type": "null"}, "b": {"type": "null"}}
    turned = dict(reversed(members.items()))
    assert form(schema={"properties": members}) != form(schema={"properties": turned})
    assert len({form(pattern="a"), form(pattern="a"), form(pattern="b")}) == 2


def test_choices_are_word_for_word() -> None:
    dfa = compile_pattern(form(choices=["Yes.", "No", "a|b", " é"]).pattern)
    assert all(map(dfa.matches, ("Yes.", "No", "a|b", " é")))
    assert not any(map(dfa.matches, ("Yes", "a", "No.", "é", "")))


VALUE = '{"a": [1]}'
FENCED = [
    *(VALUE, f" \n{VALUE}\t", f"```json\n{VALUE}\n```", f"```\n{VALUE}\n```\n"),
    *(f"\n```json\n\n {VALUE} \n\n```\n ", f"```json\n{VALUE}", f"{VALUE}\n```"),
]
UNFENCED = [
    *(f"```json {VALUE}\n```", f"```{VALUE}```", f"``\n{VALUE}\n``", f"{VALUE}```", "```json\n```"),
    *(f"```yaml\n{VALUE}\n```", f"```json\n{VALUE}\n```\n```", f"text {VALUE}", f"{VALUE} text"),
]


def test_a_fence_may_stand_around_json() -> None:
    made = form(schema={"properties": {"a": {"type": "array", "items": {"type": "integer"}}}})
    dfa = compile_pattern(made.pattern)
    assert all(map(dfa.matches, FENCED))
    assert not any(map(dfa.matches, UNFENCED))


@pytest.mark.parametrize("text", FENCED)
def test_a_fence_is_taken_off(text: str) -> None:
    assert stripped(text) == VALUE


def test_a_fence_costs_some_ten_states() -> None:
    for name in ("verdict", "article"):
        bare = compile_pattern(schema_pattern(SCHEMAS[name])).num_states
        assert compile_pattern(form(schema=SCHEMAS[name]).pattern).num_states <= bare + 13


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "number"}, {"const": "```"}])
def test_whatever_is_accepted_is_json_when_stripped(schema: Any) -> None:
    """Strings of backticks and numbers at the root too, whatever became of the fence's ends."""
    dfa = compile_pattern(form(schema=schema).pattern)
    for text in map(text_of, walks(dfa, 60, 0)):
        json.loads(stripped(text))
    assert stripped('```json\n"```json"\n```') == '"```json"'


def test_ids_that_write_text_end_no_answer() -> None:
    """tiny-sudoku's stop id 50 is the digit 2."""
    vocabulary = vocabulary_of([None, None, b"2", None])
    assert ending((1, 2, 3, 1, 99), vocabulary) == (1, 3)
    with raises(ConstraintError, "stop ids [2, 99] ... eos_token_id"):
        ending((2, 99), vocabulary)
    with raises(ConstraintError, "[2] write text"):
        compiled(form(pattern="2"), vocabulary, (2,), (0,))
    with raises(ConstraintError, "[9] ... 4 tokens"):
        compiled(form(pattern="2"), vocabulary, (1,), (9,))
    with raises(ConstraintError, "[1] ... two uses"):
        compiled(form(pattern="2"), vocabulary, (1,), (0,), Channel(1, 3))


def test_a_repeated_stop_id_counts_once() -> None:
    made = compiled(form(pattern="2"), BYTES, (1, 1), (0, 0, 1))
    edges = list(zip(made.source.tolist(), made.label.tolist(), made.target.tolist(), strict=True))
    assert len(set(edges)) == len(edges)


def test_a_choice_that_no_token_writes_is_named() -> None:
    with raises(ConstraintError, "choice 'né' ... 'é' (U+00E9)"):
        machine(form(choices=["ja", "né"]), ASCII)
    assert machine(form(choices=["ja", "né"])).distance[0] == 3


@pytest.mark.parametrize(
    ("asked", "char"),
    [
        ({"pattern": "(a|b)é+"}, "'é' (U+00E9)"),
        ({"pattern": "[€-₭]|b+\U0001f600"}, "(U+1F600) ... U+20AC"),
        ({"schema": {"const": "a\tü"}}, "'ü' (U+00FC)"),
        ({"schema": {"enum": ["日本", "本"]}}, "(U+672C)"),
    ],
)
def test_a_form_that_no_token_writes_names_a_character(asked: Any, char: str) -> None:
    """tiny-chat said that its shortest answer takes 2147483647 tokens."""
    with pytest.raises(ConstraintError) as caught:
        machine(form(**asked), ASCII)
    assert "cannot write" in str(caught.value)
    assert any(part in str(caught.value) for part in char.split(" ... "))


def test_texts_that_no_token_writes_are_not_allowed_where_others_are() -> None:
    made = machine(form(schema={"enum": ["né", "ja"]}), ASCII)
    assert made.distance[made.start] == len('"ja"') + 1


def test_a_form_that_is_too_large_names_what_to_shorten() -> None:
    item = {"type": "string", "maxLength": 2000}
    large = {"properties": {"l": {"type": "array", "items": item, "minItems": 20, "maxItems": 40}}}
    facts = "schema ... states ... maxLength 2,000 at #/properties/l/items ... maxItems 40 ... 20"
    with raises(ConstraintError, facts):
        machine(form(schema=large))
    with raises(ConstraintError, "pattern needs ... states ... repetitions"):
        machine(form(pattern="(a|b)*a(a|b){12}"))


@pytest.mark.slow
def test_a_part_that_is_too_large_names_what_to_shorten() -> None:
    parts = [{"type": "string", "maxLength": 4100}, {"type": "null"}]
    with raises(ConstraintError, "schema needs ... maxLength 4,100 at #/oneOf/0"):
        form_of(schema={"oneOf": parts})


def test_a_text_without_stop_ids_ends_with_its_place() -> None:
    """As a hole's does, which fillers follow only where room is left."""
    made = compiled(form(pattern="ab*"), BYTES, (), (0, 1))
    assert made.distance[made.start] == 1
    state = made.advance(made.start, [2 + ord("a")])
    assert made.distance[state] == 0
    filled = made.advance(state, [0])
    assert filled == made.advance(state, [1]) == made.done
    with raises(ConstraintError, "not allowed"):
        made.advance(filled, [2 + ord("b")])
