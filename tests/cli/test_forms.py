"""`--schema`, `--pattern`, `--choices` and `--tools`: what is printed, and what is refused how."""

import json
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import assert_one_line

ROOT = Path(__file__).parents[2]
PERSON = ROOT / "docs" / "examples" / "person.schema.json"
TOOLS = ROOT / "docs" / "examples" / "tools.json"
CHAT = ("--model", "tiny-chat", "--seed", "7")
MAX = "Make JSON: name Max, age 41."
OBJECT = '{\n  "name": "Max",\n  "age": 41\n}\n'


def schema_file(folder: Path, **schema: Any) -> Path:
    file = folder / "schema.json"
    file.write_text(json.dumps(schema))
    return file


# --- answers


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_json_by_a_schema_is_printed_as_it_is(run: Any, mode: str) -> None:
    done = run("generate", *CHAT, MAX, "--schema", PERSON, "--mode", mode)
    assert (done.exit_code, done.stdout, done.stderr) == (0, OBJECT, "")


def test_the_constraint_is_told(run: Any) -> None:
    done = run("generate", *CHAT, MAX, "--schema", "-", "--json", input=PERSON.read_bytes())
    reply = json.loads(done.stdout)
    assert reply["text"] == OBJECT.rstrip("\n")
    told = reply["constraint"]
    assert (told["kind"], told["settled"], told["canvases"]) == ("schema", 1, 1)
    assert 0 <= told["strain"] < 1


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [pytest.param([], 0, "warning", marks=pytest.mark.slow), (["--strict"], 1, "error")],
)
def test_a_form_that_strains_is_a_warning_or_strictly_an_error(
    run: Any, options: list[str], code: int, word: str
) -> None:
    """The text is printed all the same."""
    done = run("generate", *CHAT, "Spell bread.", "--choices", "Lima.,Rome.", *options)
    assert (done.exit_code, done.stdout in ("Lima.\n", "Rome.\n")) == (code, True)
    (line,) = done.stderr.splitlines()
    assert_says(line, f"{word}: ... nats")


@pytest.mark.parametrize(
    "choice",
    ["required", *(pytest.param(name, marks=pytest.mark.slow) for name in ("timer", "auto"))],
)
def test_calls_of_tools_are_lines_of_json(run: Any, choice: str) -> None:
    given = ("--tools", TOOLS, "--tool-choice", choice)
    done = run("generate", *CHAT, "Wake me in 20 minutes.", *given)
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"name": "timer", "arguments": {"minutes": 20}}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param(MAX, OBJECT, marks=pytest.mark.slow),
        ("Wake me in 20 minutes.", '{"name": "timer", "arguments": {"minutes": 20}}\n'),
    ],
)
def test_tools_beside_a_schema_are_called_or_the_record_is_printed(
    run: Any, question: str, expected: str
) -> None:
    done = run("generate", *CHAT, question, "--tools", TOOLS, "--schema", PERSON, "--strict")
    assert (done.exit_code, done.stdout, done.stderr) == (0, expected, "")


def test_tools_and_a_schema_that_are_too_large_together_are_one_line(
    run: Any, tmp_path: Path
) -> None:
    schema = schema_file(tmp_path, type="string", maxLength=250)
    text = {"type": "string", "maxLength": 200}
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps({"name": "note", "parameters": {"properties": {"text": text}}}))
    done = run("generate", "--model", "no/where", "Hi", "--schema", schema, "--tools", tools)
    assert_one_line(done, 1, f"{tools} ... schema and the tools together ... maxLength 250")


# --- a chat


def test_a_chat_has_a_schema_and_tools_beside_each_other(run: Any) -> None:
    lines = (
        f"/schema {PERSON}",
        f"/tools {TOOLS}",
        "Wake me in 20 minutes.",
        "/schema off",
        "/tools off",
    )
    done = run("chat", *CHAT, input="\n".join(lines))
    assert json.loads(done.stdout) == {"name": "timer", "arguments": {"minutes": 20}}
    assert done.stderr.splitlines() == [
        f"form: schema, {PERSON}.",
        f"form: schema, {PERSON}; tools, {TOOLS}.",
        f"form: tools, {TOOLS}.",
        "form: none, answers are any text.",
    ]


def test_a_chats_form_holds_until_it_is_off(run: Any) -> None:
    lines = (
        f"/schema {PERSON}",
        MAX,
        "/retry",
        "/schema off",
        "/schema",
        "/schema -",
        "Spell bread",
    )
    done = run("chat", *CHAT, input="\n".join(lines))
    assert done.stdout == OBJECT * 2 + "B-R-E-A-D.\n"
    none = "form: none, answers are any text."
    assert done.stderr.splitlines() == [f"form: schema, {PERSON}.", none, none, none]


def test_a_chat_keeps_its_form_where_a_file_is_wrong(run: Any, tmp_path: Path) -> None:
    wrong = schema_file(tmp_path, type="text")
    lines = f"/schema {wrong}\n/tools {tmp_path}/none\n/schema\n"
    done = run("chat", *CHAT, "--choices", "Yes.,No.", input=lines)
    first, second, third = done.stderr.splitlines()
    assert_says(first, f"error: {wrong} ... 'text'")
    assert_says(second, f"error: the tools cannot be read: {tmp_path}/none")
    assert third == "form: choices, Yes., No.."
    assert done.exit_code == 1


def test_a_chats_questions_come_from_standard_input(run: Any) -> None:
    for option in ("--schema", "--tools"):
        done = run("chat", *CHAT, option, "-", input="{}")
        assert_one_line(done, 2, f"{option} is - ... standard input")


# --- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pattern", "(?=a)b"], "'(?=a)b'"),
        (["--pattern", "("], "'('"),
        (["--pattern", "a{3,1}"], "'a{3,1}'"),
        (["--choices", "yes,,no"], "--choices is 'yes,,no'"),
        (["--schema", "a", "--choices", "a"], "--schema and --choices"),
        (["--pattern", "a", "--stop", "x"], "--stop ... --pattern"),
        (["--strict"], "--strict"),
        (["--tool-choice", "required"], "--tool-choice ... --tools FILE"),
        (["--tools", str(TOOLS), "--tool-choice", "nope"], "'nope' ... timer, weather"),
        (["--tools", str(TOOLS), "--raw"], "--tools"),
        (["--schema", "-", "-"], "- is given for an option and for PROMPT"),
        (["--schema", "-", "--image", "-"], "--image and --schema are both -"),
    ],
)
def test_bad_arguments_are_one_line(run: Any, options: list[str], said: str) -> None:
    assert_one_line(run("generate", *CHAT, "Hi", *options), 2, said)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"$ref": "https://example.com/a"}, "'https://example.com/a'"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "#/properties/a ... itself"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "#/properties/a ... not"),
        ({"enum": []}, "empty enum"),
        ({"type": "string", "format": "hostname"}, "'hostname'"),
        ({"minimum": 2, "maximum": 1, "type": "integer"}, "2 ... 1"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_one_line(
    run: Any, tmp_path: Path, schema: dict[str, Any], said: str
) -> None:
    file = schema_file(tmp_path, **schema)
    done = run("generate", "--model", "no/where", "Hi", "--schema", file)
    assert_one_line(done, 1, f"{file} ... {said}")


@pytest.mark.slow
def test_too_many_states_are_refused_with_what_to_shorten(run: Any, tmp_path: Path) -> None:
    item = {"type": "string", "maxLength": 200}
    file = schema_file(tmp_path, type="array", items=item, maxItems=40)
    done = run("generate", *CHAT, "Hi", "--schema", file)
    assert_one_line(done, 1, "100,000 states ... maxLength 200 at #/items, maxItems 40")


def test_an_answer_that_cannot_be_short_enough_is_refused_with_both_numbers(run: Any) -> None:
    done = run("generate", *CHAT, MAX, "--schema", PERSON, "--max-tokens", 3)
    assert done.exit_code in (1, 2)
    assert_one_line(done, done.exit_code, "shortest answer takes ... tokens ... --max-tokens is 3")


def test_a_character_that_the_vocabulary_lacks_is_named(run: Any) -> None:
    """Once: `takes 2147483647 tokens`."""
    assert_one_line(run("generate", *CHAT, "Hi", "--choices", "café,tea"), 1, "'café' ... 'é'")


def test_a_form_in_a_template_stands_in_a_hole(run: Any) -> None:
    fill = ("fill", *CHAT, "--prompt", "Fill in: What is 17 + 25?")
    done = run(*fill, r"17 + 25 = [[sum:\d\d]].")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "17 + 25 = 42.\n", "")
    assert_one_line(run(*fill, "17 + 25 = [[sum:(]]."), 1, "'('")
    assert_one_line(run(*fill, "x [[1]]", "--pattern", "a"), 2, "--pattern")
