"""Regular expressions against Python's own, which shares nothing with the automata."""

import random
import re
import sys

import pytest
from facts import raises

from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.patterns import MAX_DEPTH
from mlx_diffgemma.constrain.regex import MOST_SOURCE, parse_regex, parse_search
from mlx_diffgemma.errors import ConstraintError

ALPHABET = 'ab01.-"\\é€\U0001f600\n '
ATOMS = [
    *("a", "b", "[ab]", "[^a]", r"\d", ".", "é", "[à-ü]", r"\\", '"', "[€-\U0001f6ff]", r"\s"),
    *(r"\x61", r"\W", r"[\d.-]", r"[^\s\]]"),
]
REPEATS = ["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}", "*?", "+?", "??", "{1,2}?"]


def random_regex(source: random.Random, depth: int = 3) -> str:
    if depth == 0:
        return source.choice(ATOMS)
    inner = [random_regex(source, depth - 1) for _ in range(source.randint(1, 3))]
    kind = source.randrange(4)
    if kind == 0:
        opening = source.choice(["(", "(?:", f"(?P<n{source.getrandbits(60)}>"])
        return opening + "|".join(inner) + ")"
    if kind == 1:
        return f"(?:{inner[0]})" + source.choice(REPEATS)
    return "".join(inner)


def compare(seed: int, texts: int) -> None:
    source = random.Random(seed)
    text = random_regex(source)
    dfa, expression = compile_pattern(parse_regex(text)), re.compile(text, re.ASCII)
    searched = compile_pattern(parse_search(text, "#"), 20_000)
    for _ in range(texts):
        tried = "".join(source.choice(ALPHABET) for _ in range(source.randint(0, 5)))
        assert dfa.matches(tried) == bool(expression.fullmatch(tried)), (text, tried)
        assert searched.matches(tried) == bool(expression.search(tried)), (text, tried)


def test_agrees_with_re() -> None:
    for seed in range(1000, 1025):
        compare(seed, 60)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(15))
def test_many_agree_with_re(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        compare(seed, 400)


@pytest.mark.parametrize(
    ("source", "matching", "others"),
    [
        ("^ab$|^c", ["ab", "c"], ["abc", "cab"]),
        (r"\ud83d\ude00|\u00e9", ["\U0001f600", "é"], ["e"]),
        (r"[\b\n]\0", ["\b\0", "\n\0"], ["b0"]),
        ("a{,|{b}|}", ["a{,", "{b}", "}"], ["a", "b"]),
        ("[^]x", ["\nx", "ax"], ["x"]),
        (r"\s", [*"\t\n\v\f\r \xa0\u1680\u2000\u200a\u2028\u202f\u3000\ufeff"], [*"a\u200b\x85"]),
        (r"\S|[^\s]x", ["a", "\u200b", "\x85x"], [" ", "\xa0", "\ufeff", "\u2007x"]),
    ],
)
def test_reads_what_ecma_does(source: str, matching: list[str], others: list[str]) -> None:
    dfa = compile_pattern(parse_regex(source))
    assert all(map(dfa.matches, matching))
    assert not any(map(dfa.matches, others))


@pytest.mark.parametrize(
    ("bad", "facts"),
    [
        ("(?=a)b", "look-around ... 0"),
        ("a(?<!b)", "look-around ... 1"),
        ("a(?!b)", "look-around ... 1"),
        (r"\bword", "word boundary ... 0"),
        (r"(a)\1", "back-reference ... 3"),
        (r"(?<n>a)\k<n>", "back-reference ... 7"),
        ("a{3,1}", "{3,1} ... 1"),
        ("a{,3}", "least ... 1 ... {0,n}"),
        ("a{1234567}", "too many times ... 1"),
        ("a**", "two repetitions ... 2"),
        ("a{2}{3}", "two repetitions ... 4"),
        ("[b-a]", "order ... 0"),
        (r"[\d-z]", "order ... 0"),
        ("(a", "( ... not closed ... 0"),
        ("(?P<name", "group ... 0"),
        ("(?i)a", "group ... 0"),
        ("a)", ") ... 1"),
        ("*a", "* ... nothing ... 0"),
        ("a^b", "^ ... middle ... 1"),
        ("(a$)", "$ ... middle ... 2"),
        (r"\p{L}", "not known ... 0"),
        (r"\u12", "4 ... 0"),
        (r"\ud83d", "surrogate ... 0"),
        ("a\ud800", "surrogate ... 1"),
        (r"\01", "octal ... 0"),
        ("[a", "[ ... not closed ... 0"),
        (r"\q", "not known ... 0"),
        ("a\\", "backslash ... 1"),
        ("(" * 200 + ")" * 200, f"{MAX_DEPTH} ... groups ... {MAX_DEPTH}"),
    ],
)
def test_refuses_with_the_place(bad: str, facts: str) -> None:
    with raises(ConstraintError, "the regular expression", facts):
        parse_regex(bad)


@pytest.mark.parametrize("bad", [3, None, b"a", ["a"]])
def test_refuses_what_is_no_text(bad: object) -> None:
    with raises(ConstraintError, "#/pattern", repr(bad)):
        parse_search(bad, "#/pattern")


def test_the_deepest_groups_fit_the_stack() -> None:
    limit = sys.getrecursionlimit()
    text = "(" * MAX_DEPTH + "a" + ")?" * MAX_DEPTH
    assert compile_pattern(parse_regex(text)).matches("a")
    assert sys.getrecursionlimit() == limit


def test_an_expression_has_an_end() -> None:
    parse_regex("a" * MOST_SOURCE)
    for parse in (parse_regex, parse_search):
        with raises(ConstraintError, f"{MOST_SOURCE + 1:,} characters ... {MOST_SOURCE:,} at most"):
            parse("a" * (MOST_SOURCE + 1), "the pattern")
