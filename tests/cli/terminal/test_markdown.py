"""Markdown on a terminal: styled where it is sure, and never a character less than is needed."""

import random
import re

import pytest

from mlx_diffgemma.cli.terminal.markdown import code_blocks, rendered
from mlx_diffgemma.cli.terminal.output import Printer

STYLES = re.compile("\x1b\\[[0-9;]*m")


def plain(text: str, columns: int = 80) -> str:
    return "\n".join(line.plain for line in rendered(text, columns))


def styled(text: str) -> list[str]:
    """The words that have a style, with it."""
    return [
        f"{line.plain[span.start : span.end]}: {span.style}"
        for line in rendered(text, 80)
        for span in line.spans
        if str(span.style) != "none"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "one\ntwo  \nthree\n\n\n  four",
        "2*3*4 and 2**3**4, a_b_c, f(*args, **kwargs), .*foo.*bar",
        "<b>HTML</b> &amp; &lt;tag&gt; <!-- note -->\n<div>\n<p>x</p>\n</div>",
        r"\(x^2 + y_1\), \[a\], \{b\}, C:\path\to",
        "Title\n=====\nText\n---\n***",
        "[1]: http://a.b 'c'\nSee [1] and [2, 3] and ![alt](x.png) and <http://x.y/?q=é%20>",
        '{"a*b*": "x_y_z",\n    "b": [1, "*", "*"]}',
        'SELECT *, count(*) FROM a; "*.py", "*.md"; __init__ and _a_; **/*.c and **/*.h',
        '[{"**a**": 1}]',
        "    indented *code*\n\ttabs",
        "3. three\n7) seven\n+",
        "> quoted\ncarried on",
        "| a | b |\n| 1 | 2 |",
        "*open and **never closed",
        "\n\n",
        "",
    ],
)
def test_what_is_not_surely_markup_stays_as_it_was_written(text: str) -> None:
    assert plain(text) == text.replace("  \n", "\n").removesuffix("\n")


@pytest.mark.parametrize(
    ("text", "shown", "styles"),
    [
        ("# One #\n## Two", "One\nTwo", ["One: bold underline", "Two: bold"]),
        ("a **b** *c* ~~d~~", "a b c d", ["b: bold", "c: italic", "d: strike"]),
        ("这是**重点**内容", "这是重点内容", ["重点: bold"]),
        ("- *a*\n  * b\n+ c", "• a\n  • b\n• c", ["a: italic"]),
        (r"\*a\* and \`b\`", "*a* and `b`", []),
        ("**[a](b_c)**", "[a](b_c)", ["[: bold dim", "a: bold", "](b_c): bold dim"]),
        ("> - **a**", "> • a", ["a: bold"]),
    ],
)
def test_what_is_markup_becomes_a_style(text: str, shown: str, styles: list[str]) -> None:
    assert plain(text) == shown
    assert [style.replace("not ", "") for style in styled(text)] == styles


CODE = 'def f(x):\n\n    return "**a**" * 100  # ' + "long " * 30


@pytest.mark.parametrize("indent", ["", "   ", "> "])
@pytest.mark.parametrize("end", ["```\n\nmore", "```", ""])
def test_code_is_what_was_written_to_the_letter(indent: str, end: str) -> None:
    """In the first column, no line broken or filled up, whatever the code block stands in."""
    marker = {"": "", "   ": "1. x\n", "> ": "> x\n"}[indent]
    source = "\n".join(f"{indent}{line}" for line in ("```python", *CODE.split("\n"), end))
    lines = plain(marker + source, 40).split("\n")
    start = lines.index(f"{indent}```python") + 1
    assert lines[start : start + 3] == CODE.split("\n")
    assert code_blocks(marker + source)[0].rstrip("\n") == CODE


def test_tables_become_columns_where_they_fit() -> None:
    table = "| Name | n |\n|---|--:|\n| `a_b` | 1 |\n| 重点 | 23 |\n| c |"
    assert plain(table).split("\n") == [
        "Name    n",
        "─────  ──",
        "`a_b`   1",
        "重点   23",
        "c",
    ]
    assert plain(table, 8) == table


def test_lines_are_broken_between_words_under_their_text() -> None:
    assert plain("- one two three four", 11) == "• one two\n  three\n  four"
    assert plain("12. one two three", 11) == "12. one two\n    three"
    assert plain("one https://a.b/" + "c" * 30, 20) == "one\nhttps://a.b/" + "c" * 30


def test_a_block_of_which_something_would_be_lost_stays_as_it_is() -> None:
    for text in ("**a** [b](c 'title')", "| a |\n|---|\n| 1 | more |"):
        assert plain(text) == text


@pytest.mark.parametrize("columns", [80, 7])
def test_no_letter_or_digit_of_any_text_is_lost(columns: int) -> None:
    chance = random.Random(columns)
    parts = [*"ab1 \n\n*_`#>-|[]()!~<&;\\.:é重", "  ", "    ", "```", "**", "\n- ", "\n1. ", "---"]
    for _ in range(150):
        text = "".join(chance.choices(parts, k=chance.randint(1, 60)))
        shown = plain(text, columns)
        assert [c for c in shown if c.isalnum()] == [c for c in text if c.isalnum()], text


# --- the printer


def test_nothing_in_an_answer_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(markdown=True).finish("a\x1b[2J **b\x9b31m** &#27;[0m\r\n```\n\x07\n```\n")
    shown = STYLES.sub("", capsys.readouterr().out)
    assert shown == "a\\x1b[2J b\\x9b31m &#27;[0m\n```\n\\x07\n```\n"


def test_an_answer_that_goes_on_prints_the_lines_that_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = "Look:\n\n```py\na = 1\nb"
    Printer(markdown=True, shown=first).finish(first + " = **2**\n```\nDone.")
    assert STYLES.sub("", capsys.readouterr().out) == "b = **2**\n```\nDone.\n"


def test_an_empty_answer_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(markdown=True).finish("")
    assert capsys.readouterr().out == ""
