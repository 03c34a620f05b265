"""Schemas against json and jsonschema: accepted texts are valid, valid values are accepted."""

import inspect
import json
import math
import random
import re
import sys
from itertools import product
from typing import Any

import jsonschema
import pytest
from facts import raises
from random_schemas import SCHEMAS, instance, random_schema, spellings
from schema_patterns import schema_pattern
from walks import text_of, walks

from mlx_diffgemma.constrain.dfa import Dfa, compile_pattern
from mlx_diffgemma.constrain.patterns import MAX_DEPTH
from mlx_diffgemma.constrain.schema import reader
from mlx_diffgemma.constrain.schema.strings import FORMATS
from mlx_diffgemma.errors import ConstraintError

MANY = 60_000  # states: random schemas are not bounded by what a form may have


def compiled(schema: object) -> Dfa:
    return compile_pattern(schema_pattern(schema), MANY)


def check(schema: Any, seed: int, texts: int = 6, instances: int = 6) -> None:
    dfa, source = compiled(schema), random.Random(seed)
    validator = jsonschema.Draft202012Validator(schema)
    for text in map(text_of, walks(dfa, texts, seed)):
        assert dfa.matches(text)
        validator.validate(json.loads(text))
    for _ in range(instances):
        value = instance(schema, schema, source)
        validator.validate(value)
        for text in spellings(value):
            assert dfa.matches(text), text
        for text in (json.dumps(value)[:-1], json.dumps(value) + "]", ""):
            assert is_valid(validator, text) or not dfa.matches(text), text


def is_valid(validator: Any, text: str) -> bool:
    try:
        return bool(validator.is_valid(json.loads(text)))
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["article", "person", "verdict"])
def test_kept_schemas(name: str) -> None:
    check(SCHEMAS[name], 1, texts=5, instances=5)


def test_random_schemas() -> None:
    for seed in range(5000, 5020):
        check(random_schema(random.Random(seed), 2), seed, 3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCHEMAS if name != "tweet"])
def test_kept_schemas_at_length(name: str) -> None:
    check(SCHEMAS[name], 1, texts=60, instances=60)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_schemas(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        schema = random_schema(random.Random(seed))
        try:
            check(schema, seed)
        except ConstraintError as error:
            raise AssertionError((seed, schema)) from error


NUMBERS = [
    ({"type": "integer", "minimum": -12, "maximum": 105}, range(-120, 1200)),
    ({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 100.0}, range(120)),
    ({"type": "integer", "minimum": 7}, [*range(-20, 200), 10**17, 10**18 - 1]),
    ({"type": "integer", "maximum": -7}, [*range(-200, 20), 1 - 10**18]),
]


@pytest.mark.parametrize(("schema", "values"), NUMBERS, ids=str)
def test_whole_numbers_between_bounds(schema: Any, values: range) -> None:
    dfa, validator = compiled(schema), jsonschema.Draft202012Validator(schema)
    for value in values:
        assert dfa.matches(str(value)) == validator.is_valid(value), value
    for text in ("", "-", "-0", "00", "01", "1.0", "1e1", "+1", "1" * 19):
        assert not dfa.matches(text)


@pytest.mark.parametrize("open_ends", [(False, False), (True, True), (False, True)])
def test_decimals_between_bounds(open_ends: tuple[bool, bool]) -> None:
    for low, high in product([None, -12, 0, 3], [None, -3, 0, 4, 12]):
        if low is None or high is None or low <= high - any(open_ends):
            check_decimals(low, high, open_ends)


def check_decimals(low: int | None, high: int | None, open_ends: tuple[bool, bool]) -> None:
    names = [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
    bounds = [(names[i][open_ends[i]], b) for i, b in enumerate((low, high)) if b is not None]
    schema = {"type": "number", **dict(bounds)}
    dfa, validator = compiled(schema), jsonschema.Draft202012Validator(schema)
    wholes = [-123, -13, *range(-4, 6), 11, 12, 13, 123]
    for text in (f"{whole}{rest}" for whole in wholes for rest in ("", ".0", ".5", ".25", ".001")):
        value = json.loads(text)
        if validator.is_valid(value) and not text.startswith("-0"):
            assert dfa.matches(text), text
        elif dfa.matches(text):
            validator.validate(value)


@pytest.mark.parametrize("bound", [1, 12, 10**6, 10**14])
def test_no_decimal_is_rounded_to_an_open_bound(bound: int) -> None:
    """0.99999999999999999 is below 1, and every reader makes 1.0 of it."""
    for name, sign in (("exclusiveMaximum", 1), ("exclusiveMinimum", -1)):
        schema = {"type": "number", name: sign * bound}
        dfa = compiled(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for digits in range(1, 20):
            nearest = f"{'-' * (sign < 0)}{bound - 1}." + "9" * digits
            if dfa.matches(nearest):
                validator.validate(json.loads(nearest))
        for text in map(text_of, walks(dfa, 20, bound)):
            validator.validate(json.loads(text))


def test_every_number_is_finite_and_short() -> None:
    dfa = compiled({"type": "number"})
    assert all(math.isfinite(json.loads(text)) for text in map(text_of, walks(dfa, 100, 0)))
    assert all(map(dfa.matches, ("0", "-0.5", "1e9", "12.25E-10", "9" * 18)))
    assert not any(map(dfa.matches, ("1e400", "9" * 19, ".5", "1.", "NaN", "Infinity")))


def test_strings_are_spelled_in_every_way() -> None:
    dfa = compiled({"type": "string"})
    for text in (r'"\u00e9"', '"é"', r'"\ud83d\ude00"', '"\U0001f600"', r'"\"\\\/\n"', '"\x7f"'):
        assert dfa.matches(text), text
        assert isinstance(json.loads(text), str)
    for text in (r'"\ud83d"', r'"\ud83d\u0041"', r'"\ude00"', '"\n"', r'"\x"', '"', '"a'):
        assert not dfa.matches(text), text
    counted = compiled({"type": "string", "minLength": 1, "maxLength": 2})
    assert all(map(counted.matches, ('"é"', '"\U0001f600a"', r'"\n\""')))
    assert not any(map(counted.matches, ('""', '"abc"', r'"\u0061"')))


def test_members_keep_the_order_of_the_schema() -> None:
    schema = {"properties": {"b": {"type": "null"}, "a": {"type": "null"}}, "required": ["a"]}
    dfa = compiled(schema)
    assert all(map(dfa.matches, ('{"b":null,"a":null}', '{ "a" :\n null\t}')))
    assert not any(map(dfa.matches, ('{"a":null,"b":null}', '{"b":null}', '{"a":null,"c":1}')))


def test_references_are_followed_by_any_spelling() -> None:
    schema = {
        "$defs": {"a/b": {"const": 1}, "é ~": {"const": 2}},
        "prefixItems": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/%C3%A9%20~0"}],
    }
    assert compiled(schema).matches("[1,2]")
    listed = {"anyOf": [{"const": 1}, {"type": "array", "items": {"$ref": "#/anyOf/0"}}]}
    assert compiled(listed).matches("[1,1]")


def test_a_reference_is_read_once() -> None:
    """Each of 30 definitions names the one before twice: 2^30 readings, were none remembered."""
    names = {f"d{i}": {"prefixItems": [{"$ref": f"#/$defs/d{i - 1}"}] * 2} for i in range(1, 31)}
    schema = {"$defs": {"d0": {"const": 1}, **names}, "$ref": "#/$defs/d30"}
    schema_pattern(schema)


def test_a_type_beside_an_enum_is_enforced() -> None:
    assert compiled({"type": ["integer", "null"], "enum": [1, None, 2.0]}).matches("2.0")
    with raises(ConstraintError, "#/enum/1 ... 'a' ... integer"):
        compiled({"type": "integer", "enum": [1, "a"]})
    with raises(ConstraintError, "#/const ... True ... integer"):
        compiled({"type": "integer", "const": True})


def nested(schema: Any, depth: int = 40) -> Any:
    """Lists around a schema."""
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


LISTS, DEEP = nested({"type": "null"}), nested({"type": "null"}, 2000)
DEEP_VALUE: Any = 1
for _ in range(2000):
    DEEP_VALUE = [DEEP_VALUE]
CHAIN = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(500)}
REFUSED = {
    "a keyword that is not enforced": ({"type": "array", "uniqueItems": True}, "# ... uniqueItems"),
    "a keyword that is none": ({"type": "string", "colour": 1}, "# ... 'colour' ... string"),
    "not": (
        {"properties": {"a": {"not": {"type": "string"}}}},
        "#/properties/a ... 'not', which is not enforced",
    ),
    "if": ({"if": {}, "then": {}}, "# ... 'if', 'then', which is not enforced"),
    "a pattern for names": (
        {"type": "object", "patternProperties": {"^x": {}}},
        "# ... patternProperties",
    ),
    "an unknown format": ({"type": "string", "format": "hostname"}, "# ... 'hostname' ... ipv4"),
    "a format that is no text": ({"type": "string", "format": ["date"]}, "# ... ['date']"),
    "an unknown type": ({"items": {"type": "text"}}, "#/items ... 'text' ... object"),
    "a type that is a number": ({"type": 5}, "# ... 5 ... object"),
    "no type": ({"type": []}, "# ... []"),
    "a type in a type": ({"type": [["string"]]}, "# ... ['string']"),
    "recursion": (
        {"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
        "#/$defs/n/properties/next ... itself ... #/$defs/n",
    ),
    "the root again": ({"items": {"$ref": "#"}}, "#/items ... itself"),
    "a reference to the net": ({"$ref": "https://example.com/s.json"}, "# ... same schema"),
    "a reference to nothing": ({"$ref": "#/$defs/none"}, "# ... does not exist"),
    "a reference that is a number": ({"$ref": 3}, "# ... 3"),
    "a reference beside others": ({"$ref": "#/x", "type": "string"}, "# ... $ref ... 'type'"),
    "look-ahead": ({"type": "string", "pattern": "^(?=a)"}, "# ... look-around ... 1"),
    "a pattern that is a number": ({"type": "string", "pattern": 3}, "#/pattern is 3"),
    "two rules for a string": (
        {"type": "string", "pattern": "a", "maxLength": 3},
        "# ... pattern ... maxLength",
    ),
    "an empty enum": ({"enum": []}, "# ... enum"),
    "an enum that is a number": ({"enum": 3}, "# ... enum 3 ... list"),
    "an anyOf that is an object": ({"anyOf": {}}, "# ... anyOf {} ... list"),
    "an allOf of two": ({"allOf": [{"type": "null"}] * 2}, "# ... allOf ... 2"),
    "properties that are a list": ({"type": "object", "properties": []}, "# ... properties []"),
    "a property that is none": ({"properties": {"a/b": 3}}, "#/properties/a~1b ... 3"),
    "a name that is a number": ({"properties": {3: {}}}, "# ... 3"),
    "required that is a text": ({"type": "object", "required": "a"}, "# ... required 'a'"),
    "names that are required only": (
        {"type": "object", "properties": {"a": {}}, "required": ["b"]},
        "# ... 'b'",
    ),
    "items that are a list": ({"type": "array", "items": [{"type": "null"}]}, "#/items ... object"),
    "prefixItems and items": (
        {"prefixItems": [{"type": "null"}], "items": {"type": "null"}},
        "# ... prefixItems",
    ),
    "lengths crossed": ({"type": "string", "minLength": 3, "maxLength": 2}, "# ... 3 ... 2"),
    "a length below 0": ({"type": "string", "minLength": -1}, "# ... minLength -1"),
    "a length that is true": ({"type": "array", "maxItems": True}, "# ... maxItems True"),
    "bounds crossed": ({"type": "integer", "minimum": 3, "maximum": 2}, "# ... 3 ... 2"),
    "bounds that meet": ({"type": "number", "minimum": 3, "exclusiveMaximum": 3}, "# ... 3 ... 3"),
    "half a bound": ({"type": "number", "minimum": 0.5}, "# ... minimum 0.5 ... whole"),
    "an endless bound": ({"type": "number", "maximum": float("inf")}, "# ... maximum inf"),
    "a bound that is NaN": ({"type": "number", "maximum": float("nan")}, "# ... maximum nan"),
    "a bound of 19 digits": ({"type": "integer", "minimum": 10**18}, "# ... 18 digits"),
    "not an object": ([1], "# is [1] ... object"),
    "false": (False, "# is False ... object"),
    "false inside": ({"items": False, "type": "array"}, "#/items is False ... object"),
    "one value twice": (
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        "#/oneOf ... 0 ... 1",
    ),
    "NaN": ({"const": float("nan")}, "#/const is nan"),
    "a value that is no JSON": ({"enum": [1, {2}]}, "#/enum/1 is {2}"),
    "a number too long": ({"const": 10**5000}, "#/const"),
    "half a surrogate pair": ({"enum": ["\ud800"]}, "#/enum/0 ... U+D800"),
    "half a pair in a name": ({"properties": {"\ud800": {}}}, "# ... U+D800"),
    "a deep schema": (DEEP, f"{MAX_DEPTH} deep"),
    "a deep value": ({"const": DEEP_VALUE}, f"{MAX_DEPTH} deep"),
    "a deep schema behind a reference": (
        {
            "prefixItems": [{"$ref": "#/$defs/l"}, nested({"$ref": "#/$defs/l"})],
            "$defs": {"l": LISTS},
        },
        f"{MAX_DEPTH} deep",
    ),
    "a long way of references": ({"$defs": CHAIN, "$ref": "#/$defs/d0"}, f"{MAX_DEPTH} deep"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_place_and_what_is_wrong(case: str) -> None:
    schema, facts = REFUSED[case]
    with raises(ConstraintError, facts):
        schema_pattern(schema)


def test_the_deepest_schema_fits_the_stack() -> None:
    schema: Any = {"type": "null"}
    for _ in range(MAX_DEPTH // 2 - 1):
        schema = {"type": "array", "items": {"properties": {"a": schema}}, "maxItems": 1}
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 600)  # the rest is for whoever calls
        assert compiled(schema).matches("[]")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    "schema",
    [{"type": "string"}, {"enum": [1, 2]}, {"oneOf": [{"const": 1}, {"const": 2}]}],
    ids=str,
)
def test_reading_a_schema_has_an_end(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    schema_pattern(schema)
    monkeypatch.setattr(reader, "MOST_SECONDS", -1)
    with raises(ConstraintError, "schema # ... -1 s ... shorten"):
        schema_pattern(schema)


@pytest.mark.parametrize(
    "text",
    [
        *("example.org/x", "1a:b", "a:", "a b:c", "http://x y", "http://a#b#c", "a:%2"),
        *("http://a:b", "http:///x:y z", "http://é"),
    ],
)
def test_what_is_no_uri_is_not_written(text: str) -> None:
    assert not re.fullmatch(FORMATS["uri"], text)
