"""A prompt from its argument, a file and standard input, alone and joined."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from facts import raises
from puzzle import PUZZLE, SOLUTION, assert_one_line

from mlx_diffgemma.cli.answer.prompt import PROMPT, given_words, read_text, reads_stdin
from mlx_diffgemma.cli.errors import ArgumentError
from mlx_diffgemma.errors import PromptError

MODEL = ("--model", "tiny-sudoku", "--seed", 1)


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Something on standard input, which is no terminal."""
    stdin = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("a diff\n", "\n")),
        (["-"], ("a diff\n", "\n")),
        (["Sum up"], ("Sum up", "")),
        (["Sum up", "-"], ("Sum up\n\na diff\n", "\n")),
        (["-", "Sum up"], ("a diff\n\n\nSum up", "")),
        (["-", "Sum up\n"], ("a diff\n\n\nSum up\n", "")),
    ],
)
def test_standard_input_stands_where_its_dash_does(
    monkeypatch: pytest.MonkeyPatch, words: list[str], expected: tuple[str, str]
) -> None:
    """`git diff | ... "Write a commit message"` had no way to give both."""
    given(monkeypatch, b"a diff\n\n")
    assert read_text(words, None, PROMPT) == expected


def test_a_file_comes_before_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "question"
    file.write_bytes(b"\xef\xbb\xbfSum up:\r\n")
    given(monkeypatch, b"one\r\ntwo\r\n")
    assert read_text(["-"], file, PROMPT) == ("Sum up:\n\none\r\ntwo", "\r\n")
    assert read_text([], file, PROMPT) == ("Sum up:", "\r\n")


def test_a_text_that_stays_as_it_is_keeps_every_byte(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--raw --prompt-file` once dropped the last line break, which is a token of the prompt."""
    raw, file = replace(PROMPT, as_it_is=True), tmp_path / "prompt"
    file.write_bytes(b"\xef\xbb\xbf<bos>one\r\n\n")
    assert read_text([], file, raw) == ("\ufeff<bos>one\r\n\n", "")
    given(monkeypatch, b"two\n")
    assert read_text([], None, raw) == ("two\n", "")
    given(monkeypatch, b"two\n")
    assert read_text(["one\n", "-"], None, raw) == ("one\ntwo\n", "")
    given(monkeypatch, b"\n")
    with raises(PromptError, "empty"):
        read_text([], None, raw)


def test_the_line_break_of_a_raw_prompt_is_a_token_of_it(run: Any, tmp_path: Path) -> None:
    text = "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"
    (tmp_path / "prompt").write_text(text)
    tokens = len(["<bos>", "<|turn>", "user", "\n", "H", "i", "<turn|>", "\n", *(0, 1, 2)])
    options = ("--model", "tiny-chat", "--seed", 1, "--raw", "--max-tokens", 1, "--steps", 1)
    done = run("generate", "--prompt-file", tmp_path / "prompt", *options, "--json")
    assert json.loads(done.stdout)["prompt_tokens"] == tokens


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["write", "a", "poem"], "PROMPT is one text, got 3 ... 'write', 'a', 'poem' ... quotes"),
        (["write", "-", "poem"], "got 2 ... 'write', 'poem'"),
        (["-", "Sum up", "-"], "- is given twice"),
    ],
)
def test_words_without_quotes_are_an_error(words: list[str], facts: str) -> None:
    with raises(ArgumentError, facts):
        read_text(words, None, PROMPT)


@pytest.mark.parametrize(
    ("words", "place"), [(["Sum up", "-"], "standard input"), ([" ", "-"], "PROMPT")]
)
def test_an_empty_part_is_named(
    monkeypatch: pytest.MonkeyPatch, words: list[str], place: str
) -> None:
    given(monkeypatch, b"\n")
    with raises(PromptError, place, "empty"):
        read_text(words, None, PROMPT)


def test_what_is_read() -> None:
    assert given_words("a", None, "b") == ["a", "b"]
    assert reads_stdin([], None)
    assert reads_stdin(["a", "-"], None)
    assert reads_stdin(["-"], Path("x"))
    assert not reads_stdin(["a"], None)
    assert not reads_stdin([], Path("x"))


@pytest.mark.parametrize("command", ["generate", "fill"])
def test_the_commands_join_them(run: Any, command: str) -> None:
    first, second = PUZZLE[:40], PUZZLE[40:]
    done = run(command, first, "-", *MODEL, input=second)
    assert (done.exit_code, done.stdout) == (0, SOLUTION)
    done = run(command, "-", second, *MODEL, input=first)
    assert (done.exit_code, done.stdout) == (0, SOLUTION)
    done = run(command, "write", "a", "poem", *MODEL)
    assert_one_line(done, 2, "is one text, got 3 ... quotes")


# --- beside an image


def test_beside_an_image_the_prompt_may_be_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = replace(PROMPT, optional=True)
    for content in (b"", b" \n"):
        given(monkeypatch, content)
        assert read_text([], None, wanted) == ("", "")
        assert read_text(["-"], None, wanted) == ("", "")
    given(monkeypatch, b"")
    assert read_text([""], None, wanted) == ("", "")
    with raises(PromptError, "standard input is empty"):
        read_text(["Sum up", "-"], None, wanted)
    (tmp_path / "empty").touch()
    with raises(PromptError, "the prompt is empty"):
        read_text([], tmp_path / "empty", wanted)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert read_text([], None, wanted) == ("", "")


def test_standard_input_that_is_an_image_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, b"\x89PNG")
    wanted = replace(PROMPT, optional=True, stdin_taken=True)
    assert read_text([], None, wanted) == ("", "")
    assert read_text(["What?"], None, wanted) == ("What?", "")
    with raises(ArgumentError, "- is given for an option and for PROMPT"):
        read_text(["What?", "-"], None, wanted)
    with raises(ArgumentError, "no prompt"):
        read_text([], None, replace(PROMPT, stdin_taken=True))
