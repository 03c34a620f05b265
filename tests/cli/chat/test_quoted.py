"""A text of several lines between three quotes, through a pipe."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.cli.chat.input import PlainLines
from mlx_diffgemma.cli.chat.reader import Entered, is_closed, is_quoted
from mlx_diffgemma.errors import PromptError


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a reader makes of standard input."""

    def read(content: str) -> list[Entered]:
        stream = SimpleNamespace(buffer=io.BytesIO(content.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stream)
        reader, found = PlainLines(), list[Entered]()
        while True:
            try:
                found.append(reader.read("> "))
            except EOFError:
                return found

    return read


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ('"""one"""', "one"),
        ('"""\none\ntwo\n"""', "one\ntwo"),
        ('"""one\n\n  two"""', "one\n\n  two"),
        ('  """/help\\\n two """  ', "/help\\\n two "),
        ('""""""', ""),
        ('"""\n\n"""', ""),
    ],
)
def test_a_text_between_three_quotes(entered: Any, typed: str, text: str) -> None:
    assert entered(f"{typed}\nnext\n") == [Entered(text, quoted=True), Entered("next")]


def test_quotes_within_a_line_are_a_line(entered: Any) -> None:
    line = '"""a""" is what in Python?'
    assert entered(f'{line}\nSay """.\n') == [Entered(line), Entered('Say """.')]


def test_a_text_without_an_end_is_not_asked(entered: Any) -> None:
    with raises(PromptError, 'text ... """ ... no end ... nothing was asked'):
        entered('"""one\ntwo\n')


def test_what_it_says_is_no_command(run: Any) -> None:
    done = run("chat", "--model", "tiny-sudoku", input='"""/quit"""\n"""\n"""\n"""x')
    first, second = done.stderr.splitlines()
    assert "'/' at line 1" in first
    assert "nothing was asked" in second


def test_a_text_that_grows_is_open_until_its_end() -> None:
    """As the editor looks at it, whole."""
    texts = ['"""', '"""a', '"""a\n"', '"""a\n"""']
    assert [is_quoted(text) for text in texts] == [True] * 4
    assert [is_closed(text) for text in texts] == [False, False, False, True]
