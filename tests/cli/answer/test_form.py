"""The form of an answer, read from options and files before a model is looked for."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.cli.answer.form import (
    MOST_BYTES,
    GivenForm,
    GivenOption,
    read_form,
    split_choices,
)
from mlx_diffgemma.cli.errors import ArgumentError, FileError
from mlx_diffgemma.cli.form_options import FormOptions
from mlx_diffgemma.errors import ConstraintError

TIMER = {"name": "timer", "parameters": {"type": "object", "properties": {}}}


def given(**options: Any) -> GivenForm:
    return read_form(FormOptions(**options))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "form.json"


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("yes,no", ["yes", "no"]),
        (" yes , no ", ["yes", "no"]),
        ("one", ["one"]),
        (r"a\,b,c", ["a,b", "c"]),
        (r"a\\,b", ["a\\", "b"]),
        (r"C:\x,\n", [r"C:\x", r"\n"]),
        ("a\nb,c", ["a\nb", "c"]),
    ],
)
def test_commas_separate_choices(text: str, choices: list[str]) -> None:
    assert list(split_choices(text)) == choices


@pytest.mark.parametrize("text", ["", ",", "yes,,no", "yes,", " ,no", "a, "])
def test_an_empty_choice_is_refused(text: str) -> None:
    with raises(ArgumentError, f"--choices is {text!r} ... empty"):
        list(split_choices(text))


def test_choices_may_be_given_one_by_one() -> None:
    form = given(choices=["yes", "no,perhaps"])
    choices = {"choices": ("yes", "no", "perhaps")}
    assert form == GivenForm(GivenOption("choices", "yes, no, perhaps", choices))


def test_what_is_not_given_is_no_form() -> None:
    assert given() == GivenForm()
    assert given().options == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schema": Path("a"), "choices": ["a"]}, "--schema and --choices"),
        ({"pattern": "a", "choices": ["a"]}, "--pattern and --choices"),
        ({"tool_choice": "required"}, "--tool-choice ... --tools FILE"),
        ({"strict": True}, "--strict ... --schema, --pattern, --choices or --tool-choice required"),
        ({"strict": True, "tools": Path("a")}, "--strict"),
        ({"strict": True, "tools": Path("a"), "tool_choice": "auto"}, "--strict"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], said: str) -> None:
    with raises(ArgumentError, said):
        FormOptions(**options)


def test_a_schema_is_the_object_in_its_file(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf{"type": "integer"}')
    option = GivenOption("schema", str(file), {"schema": {"type": "integer"}})
    assert given(schema=file) == GivenForm(option)


def test_standard_input_may_be_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(b'{"const": 1}'))
    monkeypatch.setattr(sys, "stdin", stdin)
    form = given(schema=Path("-"))
    assert form.text == GivenOption("schema", "standard input", {"schema": {"const": 1}})
    monkeypatch.setattr(sys, "stdin", None)
    with raises(FileError, "standard input is closed"):
        given(schema=Path("-"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty, expected JSON"),
        (b" \n", "is empty"),
        (b'{"type":\n "integer",}', "line 2 column 12"),
        (b'{"type": "integer", "type": "string"}', "'type' ... twice"),
        (b'{"const": NaN}', "NaN"),
        (b'{"const": 1e999}', "1e999"),
        (b"[" * 101 + b"]" * 101, "more than 100 deep"),
        ('{"const": "é"}'.encode("latin-1"), "not UTF-8: byte 0xe9 at 11"),
        (b"[]", "holds [], expected a JSON schema, an object"),
        (b'"string"', "holds 'string', expected a JSON schema"),
        (b" " * (MOST_BYTES + 1), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_schema_is_named(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with raises(FileError, f"{file} ... {said}"):
        given(schema=file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for kind in ("schema", "tools"):
        with raises(FileError, f"the {kind} cannot be read: {tmp_path}/none: No such file"):
            given(**{kind: tmp_path / "none"})
        with raises(FileError, f"{tmp_path}: Is a directory"):
            given(**{kind: tmp_path})
        with raises(FileError, f"the {kind} cannot be read ... write JSON into a file"):
            given(**{kind: Path('{"type": "string"}')})


def test_a_schema_that_cannot_be_enforced_is_named_with_its_file(file: Path) -> None:
    file.write_text(json.dumps({"type": "array", "items": {"type": "string"}, "uniqueItems": True}))
    with raises(ConstraintError, f"{file} ... uniqueItems"):
        given(schema=file)


@pytest.mark.parametrize("pattern", ["(?=a)b", "(", "a{3,1}", r"\bword", r"(a)\1", r"\p{L}", "["])
def test_a_pattern_that_cannot_be_enforced_is_a_bad_argument(pattern: str) -> None:
    with raises(ArgumentError, repr(pattern)):
        given(pattern=pattern)


def test_an_empty_pattern_is_refused() -> None:
    """As a shell makes one of a variable that is not set."""
    with raises(ArgumentError, "--pattern is empty"):
        given(pattern="")


def test_tools_are_a_list_or_one(file: Path) -> None:
    for content in (TIMER, [TIMER]):
        file.write_text(json.dumps(content))
        form = given(tools=file)
        assert form == GivenForm(tools=GivenOption("tools", str(file), {"tools": [TIMER]}))
        chosen = given(tools=file, tool_choice="timer")
        assert chosen.options == {"tools": [TIMER], "tool_choice": "timer"}


def test_tools_beside_a_text_are_held_to_their_declarations(file: Path) -> None:
    file.write_text(json.dumps(TIMER))
    form = given(tools=file, pattern="a+")
    assert form.options == {"pattern": "a+", "tools": [TIMER]}
    assert [option.kind for option in form.given] == ["pattern", "tools"]
    file.write_text(json.dumps({**TIMER, "parameters": {"properties": {"a": {"not": {}}}}}))
    assert given(tools=file).options["tools"]
    with raises(ConstraintError, f"{file}: ... #/properties/a ... not"):
        given(tools=file, pattern="a+")


@pytest.mark.parametrize("content", ["[]", "3", '["timer"]', "[{}]", '[{"name": 3}]'])
def test_tools_without_a_declaration_are_refused(file: Path, content: str) -> None:
    file.write_text(content)
    for choice in (None, "required"):
        with pytest.raises((FileError, ConstraintError), match=str(file)):
            given(tools=file, tool_choice=choice)


def test_a_choice_that_is_no_tool_names_those_there_are(file: Path) -> None:
    file.write_text(json.dumps([TIMER]))
    with raises(ArgumentError, "--tool-choice ... 'nope' ... auto, required ... timer"):
        given(tools=file, tool_choice="nope")
