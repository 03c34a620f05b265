"""Tool calls as a form: whatever it accepts is read back, to arguments that its schema allows."""

from typing import Any

import jsonschema
import pytest
from facts import raises
from random_schemas import SCHEMAS
from walks import text_of, walks

from mlx_diffgemma.constrain.calls import MARKS, calls_pattern, without_quotes
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.dfa import Dfa, compile_pattern
from mlx_diffgemma.constrain.form import compiled, tools_form
from mlx_diffgemma.constrain.machine import Machine
from mlx_diffgemma.constrain.patterns import ANY, Mark, Times, seq
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.errors import ConstraintError
from mlx_diffgemma.text.tools import parse_tool_call

OPENING, CLOSING, QUOTE = MARKS


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "unit": {"type": "string", "enum": ["°C", "°F"]},
            "City": {"type": "string"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            "on": {"type": "string", "format": "date"},
        },
        "required": ["City", "unit"],
    },
)
NOTE = tool(
    "note.add-1",
    {
        "properties": {
            "b": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
            "a b": {"properties": {"z": {"type": ["null", "boolean"]}, "y": {"type": "string"}}},
            "any": {},
            "of": {"oneOf": [{"const": {"k": "v", "j": [1.5, None]}}, {"type": "string"}]},
        },
    },
)
PING = tool("ping")


def automaton(tools: list[Any], choice: str) -> Dfa:
    return without_quotes(compile_pattern(calls_pattern(tools, choice)[0]))


def calls_in(text: str) -> list[Any]:
    """The calls of an answer that holds nothing else."""
    assert text.startswith(OPENING)
    assert text.endswith(CLOSING)
    parts = text[len(OPENING) : -len(CLOSING)].split(CLOSING + OPENING)
    return [parse_tool_call(part) for part in parts]


def check(tools: list[Any], choice: str, count: int) -> None:
    dfa = automaton(tools, choice)
    schemas = {t["function"]["name"]: t["function"]["parameters"] or {} for t in tools}
    for symbols in walks(dfa, count, 0):
        text = text_of(symbols, dfa.marks)
        for call in calls_in(text):
            assert call is not None, text
            jsonschema.Draft202012Validator(schemas[call.name]).validate(call.arguments)
            names = [name.lower() for name in call.arguments]
            assert names == sorted(names)


def test_what_is_accepted_is_read_back() -> None:
    check([WEATHER, NOTE, PING], "required", 40)
    check([WEATHER, NOTE, PING], "note.add-1", 20)


@pytest.mark.slow
def test_what_is_accepted_is_read_back_at_length() -> None:
    check([WEATHER, NOTE, PING], "required", 1000)
    named = [tool(f"t{i}", s) for i, s in enumerate(SCHEMAS.values()) if s.get("type") == "object"]
    check([t for t in named if "maxLength" not in str(t)], "required", 300)


def run(dfa: Dfa, *parts: str) -> bool:
    """True where the automaton accepts parts; one that is a mark's name stands for the mark."""
    state = 0
    for part in parts:
        state = int(dfa.after(part)[state]) if part in MARKS else dfa.run(part.encode(), state)
    return bool(dfa.accepts[state])


def test_a_call_is_written_as_the_template_writes_it() -> None:
    dfa = automaton([WEATHER, PING], "required")
    head, city = "call:get_weather{City:", (QUOTE, "Aix, {en} [P]\n", QUOTE)
    assert run(dfa, OPENING, head, *city, ",days:3,unit:", QUOTE, "°C", QUOTE, "}", CLOSING)
    assert run(dfa, OPENING, "call:ping{}", CLOSING, OPENING, "call:ping{}", CLOSING)
    assert not run(dfa, OPENING, head, *city, ",unit:", QUOTE, "°K", QUOTE, "}", CLOSING)
    assert not run(dfa, OPENING, head, *city, "}", CLOSING)
    assert not run(dfa, OPENING, head, "Aix,unit:", QUOTE, "°C", QUOTE, "}", CLOSING)
    assert not run(dfa, OPENING, "call:ping{ }", CLOSING)
    assert not run(dfa, "call:ping{}")
    assert not run(dfa)


def test_one_tool_is_called_once() -> None:
    dfa = automaton([WEATHER, PING], "ping")
    assert run(dfa, OPENING, "call:ping{}", CLOSING)
    assert not run(dfa, OPENING, "call:ping{}", CLOSING, OPENING, "call:ping{}", CLOSING)


def test_no_string_holds_the_text_of_a_quote() -> None:
    dfa = automaton([tool("t", {"properties": {"s": {"type": "string"}}})], "t")
    for content, fine in (("<|", True), ('<|"|', True), ('<|"|>', False), ('a<<|"|>,s:', False)):
        assert run(dfa, OPENING, "call:t{s:", QUOTE, content, QUOTE, "}", CLOSING) == fine
    broken = compile_pattern(seq(Mark(QUOTE), Times(ANY), Mark(QUOTE)))
    assert run(broken, QUOTE, QUOTE, QUOTE) is False


VOCABULARY = vocabulary_of([None] * 6 + [bytes((b,)) for b in range(256)])
IDS = {OPENING: 2, CLOSING: 3, QUOTE: 4, "<|turn>": 5}


def machine(tools: list[Any], choice: str) -> Machine:
    return compiled(tools_form(tools, choice), VOCABULARY, (1,), (0, 1), None, IDS)


def test_marks_are_control_tokens_of_their_own() -> None:
    made = machine([WEATHER, PING], "required")
    assert len({int(made.of[token]) for token in (1, 2, 3, 4)}) == 4
    ids = [2, *(6 + b for b in b"call:ping{}"), 3]
    state = made.advance(made.start, ids)
    assert made.distance[state] == 1
    assert made.advance(state, [1]) == made.done
    assert made.advance(state, ids) == state
    for byte in range(256):  # no byte token is taken for a mark
        with raises(ConstraintError, "not allowed"):
            made.advance(made.start, [6 + byte])
    assert Constraint(made, 20).allowed()[made.of[2]]


def test_a_model_without_the_marks_calls_nothing() -> None:
    with raises(ConstraintError, '<tool_call|>, <|"|> ... without tools'):
        compiled(tools_form([PING], "ping"), VOCABULARY, (1,), (0,), None, {OPENING: 2})


@pytest.mark.parametrize(
    ("tools", "choice", "facts"),
    [
        ([], "required", "tools are [] ... list"),
        ("ping", "required", "tools are 'ping' ... list"),
        ([3], "required", "tool 1 is 3"),
        ([{"function": 3}], "required", "tool 1 ... object"),
        ([{"description": "x"}], "required", "tool 1 ... None"),
        ([tool("a b")], "required", "tool 1 ... 'a b'"),
        ([tool("a{")], "required", "tool 1 ... 'a{'"),
        ([tool("required")], "required", "tool 1 ... 'required'"),
        ([PING, PING], "required", "tool 2 ... 'ping'"),
        ([PING], "pong", "'pong' ... required ... ping"),
        ([PING], 3, "tool choice is 3 ... required or one of ping"),
        ([tool("t", 3)], "t", "tool t # is 3"),
        ([tool("t", {"type": "array"})], "t", "tool t # ... 'array' ... object"),
        ([tool("t", {"properties": {"a:b": {}}})], "t", "tool t # ... 'a:b'"),
        ([tool("t", {"properties": {" a": {}}})], "t", "tool t # ... ' a'"),
        ([tool("t", {"properties": {"a": {"not": {}}}})], "t", "tool t #/properties/a ... not"),
        (
            [tool("t", {"properties": {"a": {"type": "object"}}})],
            "t",
            "tool t #/properties/a/additionalProperties ... names ... twice",
        ),
        ([tool("t", {"properties": {"a": {"const": QUOTE}}})], "t", "tool t #/properties/a/const"),
        ([tool("t", {"required": ["a"]})], "t", "tool t # ... 'a'"),
    ],
)
def test_what_cannot_be_called_is_refused(tools: Any, choice: Any, facts: str) -> None:
    with raises(ConstraintError, facts):
        tools_form(tools, choice)


def test_a_bare_function_is_a_declaration_too() -> None:
    assert run(automaton([{"name": "ping"}], "ping"), OPENING, "call:ping{}", CLOSING)
    assert tools_form([{"name": "ping"}], "ping") == tools_form([{"name": "ping"}], "ping")
    assert tools_form([PING], "ping") != tools_form([PING], "required")
