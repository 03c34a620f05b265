"""Tool calls, well formed or nearly so, and the types that a schema gives their arguments."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from mlx_diffgemma.text.answer import Answer
from mlx_diffgemma.text.call_text import QUOTED
from mlx_diffgemma.text.reader import AnswerReader, parse_answer
from mlx_diffgemma.text.tokenizer import Tokenizer
from mlx_diffgemma.text.tools import Tool, ToolCall, parse_tool_call, read_call

TRAVEL: Tool = {
    "name": "travel",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "price": {"type": "number"},
            "fast": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "at": {"type": "object", "properties": {"zip": {"type": "string"}}},
            "free": {},
            "some": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "unit": {"enum": ["1", "2"]},
            "node": {"$ref": "#/$defs/node"},
        },
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
            }
        },
    },
}
OPEN, CLOSE = "<|tool_call>", "<tool_call|>"


def read(arguments: str, *tools: Tool, name: str = "travel") -> tuple[Any, list[str]]:
    """Arguments of a call, in which Q is the quote token, and what its repairs say."""
    found = read_call(f"call:{name}{arguments}".replace("Q", QUOTED), tools)
    if found is None:
        return None, []
    json.dumps(found.call.arguments, allow_nan=False).encode()
    end = "; it was read all the same."
    assert all(line.startswith(f"the call of {name} ") for line in found.repairs)
    assert all(line.endswith(end) for line in found.repairs)
    return found.call.arguments, [
        line.removeprefix(f"the call of {name} ").removesuffix(end) for line in found.repairs
    ]


# --- the failures of other engines, by their numbers


def test_1_nested_objects_are_not_cut_at_the_first_brace() -> None:
    nested = "{at:{lat:48.4,name:{de:QUlmQ}},list:[{a:[]},{}],n:1}"
    arguments = {
        "at": {"lat": 48.4, "name": {"de": "Ulm"}},
        "list": [{"a": []}, {}],
        "n": 1,
    }
    assert read(nested) == (arguments, [])


@pytest.mark.parametrize("name", ["get-weather", "a_b", "x"])
def test_2_braces_in_strings_and_hyphens_in_names(name: str) -> None:
    found = {"code": "if (a) { b[0] }, c:{", "n": 1}
    assert read("{code:Qif (a) { b[0] }, c:{Q,n:1}", name=name) == (found, [])


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("{code:Qdef f():\n  QQQdocQQQ\n  return 1Q}", 'def f():\n  """doc"""\n  return 1'),
        ("{code:QQQQdocQQQQ}", '"""doc"""'),
        ("{code:Qprint({QaQ: [QbQ]})Q}", 'print({"a": ["b"]})'),
        ("{code:Qsay QhiQ}", 'say "hi'),
        ("{code:QSaid QhiQ, he said: noQ}", 'Said "hi", he said: no'),
        ("{code:Qa QbQ, cQ}", 'a "b", c'),
    ],
)
def test_3_a_quote_inside_a_string_does_not_end_it(written: str, code: str) -> None:
    """It stands for the character; a string ends before a comma and a key, or the brackets."""
    tool = {"name": "travel", "parameters": {"properties": {"code": {}, "n": {}}}}
    assert read(written, tool) == ({"code": code}, ["had quotes inside code"])
    more = written.replace("code:", "n:{m:[").replace("Q}", "Q]},code:QxQ}")
    assert read(more, tool)[0] == {"n": {"m": [code]}, "code": "x"}


def test_4_quotes_as_in_json_or_single_ones() -> None:
    assert read("""{city:"Ulm",l:["a, b","c\\"d\\u00e9"],o:{'z':'it\\'s'}}""") == (
        {"city": "Ulm", "l": ["a, b", 'c"dé'], "o": {"z": "it's"}},
        ['had " around city', 'had " around l', "had ' around z", "had ' around o.z"],
    )
    assert read('{"city": "Ulm", "days": 3}')[0] == {"city": "Ulm", "days": 3}
    assert read('{e:"\\ud83d\\ude00 \\ud83d \\n"}')[0] == {"e": "😀 \ufffd \n"}


@pytest.mark.parametrize("name", ["mcp:tool", "a.b", "srv:ns.tool-1", "mcp__a__b"])
def test_5_names_with_colons_and_dots(tokenizer: Tokenizer, name: str) -> None:
    ids = tokenizer.encode(f"{OPEN}call:{name}{{n:1}}{CLOSE}")
    assert parse_answer(tokenizer, ids).tool_calls == (ToolCall(name, {"n": 1}),)


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("{city:UlmQ,days:3}", {"city": "Ulm", "days": 3}),
        ("{city:Ulm, GermanyQ,days:3}", {"city": "Ulm, Germany", "days": 3}),
        ("{l:[aQ,QbQ,cQ]}", {"l": ["a", "b", "c"]}),
        ("{at:{zip:089 (old)Q}}", {"at": {"zip": "089 (old)"}}),
        ('{city:"UlmQ,days:3}', {"city": "Ulm", "days": 3}),
        ("{city:Ulm,days:3}", {"city": "Ulm", "days": 3}),
        ("{zip:007}", {"zip": "007"}),
        ("{at:12:30}", {"at": "12:30"}),
        ("{n:NaN,m:1e999}", {"n": "NaN", "m": "1e999"}),
    ],
)
def test_6_a_missing_delimiter(written: str, arguments: dict[str, Any]) -> None:
    found, repairs = read(written)
    assert found == arguments
    assert all(line.startswith("lacked a quote around ") for line in repairs)
    assert repairs


@pytest.mark.parametrize(
    ("written", "behind"),
    [
        ("{city:QUlmQ days:3,fast:true}", "city"),
        ("{city:QUlmQdays:3,fast:true}", "city"),
        ("{city:QUlmQQdaysQ:3,fast:true}", "city"),
        ("{city:QUlmQ,days:3 fast:true}", "days"),
    ],
)
def test_7_a_missing_comma(written: str, behind: str) -> None:
    arguments = {"city": "Ulm", "days": 3, "fast": True}
    assert read(written) == (arguments, [f"lacked a comma behind {behind}"])


def test_7_a_missing_comma_in_lists_and_behind_brackets() -> None:
    assert read("{l:[QaQ QbQQcQ],m:[1 2]o:{}p:[]}") == (
        {"l": ["a", "b", "c"], "m": [1, 2], "o": {}, "p": []},
        [f"lacked a comma behind {name}" for name in "lmo"],
    )
    assert read("{n:[1,],}")[0] == {"n": [1]}


@pytest.mark.parametrize(
    "written",
    [
        '(city="Ulm", days=3)',
        "(city=QUlmQ,days=3)",
        "({city:QUlmQ,days:3})",
        "( city = Ulm, days: 3 )",
    ],
)
def test_8_parentheses_for_braces(written: str) -> None:
    found, repairs = read(written)
    assert found == {"city": "Ulm", "days": 3}
    assert repairs[0] == "had ( and ) around its arguments"
    assert read("()")[0] == {}


def test_9_the_same_characters_as_text_are_data(tokenizer: Tokenizer) -> None:
    """The quote token is known by its id: neither its text nor a quote in a value ends one."""
    quote = tokenizer.id_of('<|"|>')
    assert quote is not None
    typed = [token for letter in 'a<|"|>}"b' for token in tokenizer.encode(letter)]
    head, tail = tokenizer.encode(f"{OPEN}call:a{{b:"), tokenizer.encode(f"}}{CLOSE}")
    answer = parse_answer(tokenizer, [*head, quote, *typed, quote, *tail])
    assert answer == Answer("", None, (ToolCall("a", {"b": 'a<|"|>}"b'}),))


def test_10_a_call_may_be_split_anywhere(tokenizer: Tokenizer) -> None:
    written = f'Ask.{OPEN}call:a{{b:<|"|>é<|"|>,c:[1,2]}}{CLOSE}Done.'
    ids = tokenizer.encode(written)
    for at in range(len(ids) + 1):
        reader = AnswerReader(tokenizer)
        for segment in (ids[:at], ids[at:]):
            reader.finish(segment)
        assert reader.answer() == Answer(
            "Ask.Done.", None, (ToolCall("a", {"b": "é", "c": [1, 2]}),)
        )


@pytest.mark.parametrize(
    ("written", "arguments", "told"),
    [
        ("{city:Q42Q}", {"city": "42"}, False),
        ("{city:42}", {"city": "42"}, True),
        ("{city:1.50}", {"city": "1.50"}, True),
        ("{city:True}", {"city": "True"}, True),
        ("{city:null}", {"city": None}, False),
        ("{days:Q42Q}", {"days": 42}, True),
        ("{days:42.0}", {"days": 42}, True),
        ("{days:QmanyQ}", {"days": "many"}, False),
        ("{price:3}", {"price": 3}, False),
        ("{price:Q-2.5Q}", {"price": -2.5}, True),
        ("{price:QNaNQ}", {"price": "NaN"}, False),
        ("{price:Q1e999Q}", {"price": "1e999"}, False),
        ("{fast:True}", {"fast": True}, False),
        ("{fast:QFalseQ}", {"fast": False}, True),
        ("{tags:[1,QaQ,true]}", {"tags": ["1", "a", "true"]}, True),
        ('{tags:Q["a", 2]Q}', {"tags": ["a", "2"]}, True),
        ("{at:{zip:12345}}", {"at": {"zip": "12345"}}, True),
        ('{at:Q{"zip": 12345}Q}', {"at": {"zip": "12345"}}, True),
        ("{at:QnoneQ}", {"at": "none"}, False),
        ("{free:42,some:QnullQ}", {"free": 42, "some": None}, True),
        ("{some:Q7Q}", {"some": 7}, True),
        ("{unit:1}", {"unit": "1"}, True),
        ("{node:{n:Q1Q,next:{n:Q2Q}}}", {"node": {"n": 1, "next": {"n": 2}}}, True),
        ("{other:Q42Q}", {"other": "42"}, False),
    ],
)
def test_11_types_are_the_schemas(written: str, arguments: dict[str, Any], told: bool) -> None:
    found, repairs = read(written, TRAVEL)
    assert found == arguments
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in arguments.items()}
    assert bool(repairs) == told
    assert read(written, {"type": "function", "function": TRAVEL})[0] == found


def test_11_types_are_as_spelled_without_a_schema() -> None:
    arguments = {"city": 42, "days": "42", "fast": True, "no": False}
    written = "{city:42,days:Q42Q,fast:true,no:False}"
    assert read(written) == (arguments, [])
    assert read(written, {**TRAVEL, "name": "another"}) == (arguments, [])


def test_11_a_repair_says_what_was_written() -> None:
    assert read("{days:Q42Q,city:7}", TRAVEL)[1] == [
        "had the text '42' for days, whose type is integer",
        "had 7 for city, whose type is string",
    ]


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("{max days:1,a-b:2}", ["max days", "a-b"]),
        ("{Qa:bQ:1,'c d':2,\"e\":3}", ["a:b", "c d", "e"]),
        ("{ max-days : 1 , x.y : 2 }", ["max-days", "x.y"]),
    ],
)
def test_12_keys_with_blanks_hyphens_and_quotes(written: str, names: list[str]) -> None:
    assert read(written)[0] == {name: n for n, name in enumerate(names, 1)}


def test_13_calls_side_by_side_in_a_thought_and_behind_text(tokenizer: Tokenizer) -> None:
    one, two = (f"{OPEN}call:{name}{{n:{n}}}{CLOSE}" for n, name in enumerate("ab", 1))
    calls = ToolCall("a", {"n": 1}), ToolCall("b", {"n": 2})
    written = f"<|channel>thought\nHm. {one}So.<channel|>I ask. {two}"
    assert parse_answer(tokenizer, tokenizer.encode(written)) == Answer("I ask. ", "Hm. So.", calls)
    assert parse_answer(tokenizer, tokenizer.encode(one + two)) == Answer("", None, calls)
    assert parse_answer(tokenizer, tokenizer.encode(f"{one}Text.{two}")) == Answer(
        "Text.", None, calls
    )


# 14, results in a history, is tests/text/test_turns.py


# --- what is well formed, and what cannot be read


def test_a_well_formed_call_is_read_as_it_stands() -> None:
    """Whatever else it might be: an undeclared name, and a text that looks like more members."""
    written = "{city:QUlmQ,foo:Qx, days:3Q,it's:1}"
    assert read(written, TRAVEL) == ({"city": "Ulm", "foo": "x, days:3", "it's": 1}, [])


def test_a_name_comes_once() -> None:
    written = "{days:1,city:Qa QbQ, days: QcQ, city: QdQ}"
    assert read(written, TRAVEL)[0] == {"days": 1, "city": 'a "b", days: "c", city: "d'}


def test_a_name_that_is_not_declared_is_no_part_of_a_text() -> None:
    assert read('{city:QUlmQ,foo:"x"}', TRAVEL)[0] == {"city": "Ulm", "foo": "x"}


@pytest.mark.parametrize(
    "written",
    [
        "{",
        "{n:1",
        "{n:1}}",
        "{n}",
        "{:1}",
        "{n:}",
        "{,}",
        "{n:1,n:2}",
        "{city:QUlm}",
        "{city:Q",
        "{l:[1}",
        "{n:1]",
        "(n=1",
        "(n=1}",
        "{n:1}x",
        f"{{n:{'[' * 2000}{']' * 2000}}}",
        f"{{n:{'{a:' * 2000}",
    ],
)
def test_what_cannot_be_read(written: str) -> None:
    assert read(written) == (None, [])
    assert read(written, TRAVEL) == (None, [])


@pytest.mark.parametrize("head", ["", "get{}", "call:{}", "call:get", "call: {n:1}", "{n:1}"])
def test_what_is_no_call(head: str) -> None:
    assert read_call(head) is None


def test_a_text_with_its_markers_spelled_out() -> None:
    """As templates write calls, and training data has them."""
    assert parse_tool_call('call:a{b:<|"|>c<|"|>}') == ToolCall("a", {"b": "c"})
    assert parse_tool_call("nothing") is None


# --- whatever is written

PARTS = (
    *("{", "}", "[", "]", "(", ")", ",", ":", "=", QUOTED, QUOTED, QUOTED, '"', "'", "\\", " "),
    *("city", "days", "tags", "42", "-1.5", "true", "False", "null", "Ulm", "\n", "é", "call:"),
)
BROKEN: list[Any] = [
    {"name": "f", "parameters": parameters}
    for parameters in (
        *(None, True, 5, "x", [], {"type": 5}, {"type": [5]}, {"properties": [1]}),
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#/anyOf/0"}, {"$ref": "#"}]},
        {"properties": {"city": {"enum": [[], {}]}, "days": {"const": 1}, "tags": {"items": 5}}},
        TRAVEL["parameters"],
    )
]


def test_nothing_raises_and_what_is_read_is_json() -> None:
    chance = random.Random(0)
    found = 0
    for _ in range(10_000):
        inside = "".join(chance.choice(PARTS) for _ in range(chance.randrange(24)))
        call = read_call(f"call:f{{{inside}}}", [chance.choice(BROKEN)])
        if call is not None:
            json.dumps(call.call.arguments, allow_nan=False).encode()
            found += 1
    assert found > 200


def test_without_one_comma_or_one_quote_in_front_a_call_is_the_same() -> None:
    whole = "{city:QUlm, BaQ,days:3,tags:[QaQ,QbQ],at:{zip:Q1Q},price:1.5,free:[1,[2],{}]}"
    arguments, _ = read(whole, TRAVEL)
    assert arguments["free"] == [1, [2], {}]
    openings = [n for n, c in enumerate(whole) if c == "Q" and whole[n - 1] in ":[,"]
    between = [n for n, c in enumerate(whole) if c == "," and whole[n + 1] not in " [{"]
    for at in (*openings, *between):
        changed = whole[:at] + (" " if whole[at] == "," else "") + whole[at + 1 :]
        found, repairs = read(changed, TRAVEL)
        assert found == arguments, changed
        assert len(repairs) == 1, changed


@pytest.mark.parametrize(
    "part",
    [
        *(QUOTED, f"{QUOTED} ", '"', "a:", ",a:", "{a:", "[", " ", f"{QUOTED},", "1 ", "1,"),
        *(f"[[{QUOTED}]", f"{QUOTED}]", f"[{QUOTED}", "]", "}", "{a:[", f"[{QUOTED}{QUOTED}", "'"),
        *('"\\', "'a',", f"a:{QUOTED}x{QUOTED} ", "(", "=", f"{QUOTED}}}", '["a",'),
    ],
)
def test_long_calls_take_no_more_than_their_length(part: str) -> None:
    """A canvas of 256 tokens is a thousand characters; this is thirty times as many."""
    written = "call:f{a:" + part * (30_000 // len(part)) + "}"
    began = time.thread_time()
    read_call(written, [TRAVEL])
    assert time.thread_time() - began < 1.0
