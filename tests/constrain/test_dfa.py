"""Automata: characters as bytes, optional fields, marks, minimal sizes, caps."""

import random
import time

import numpy as np
import pytest
from facts import raises

from mlx_diffgemma.constrain import dfa
from mlx_diffgemma.constrain.dfa import avoiding, compile_pattern, disjoint
from mlx_diffgemma.constrain.nfa import BYTES, TooLargeError, utf8_spans
from mlx_diffgemma.constrain.patterns import ANY, Chars, Fields, Mark, Text, Times, either, seq
from mlx_diffgemma.constrain.regex import parse_regex
from mlx_diffgemma.errors import ConstraintError

EDGES = (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF)


def test_utf8_spans_are_every_character_once() -> None:
    source = random.Random(0)
    for _ in range(60):
        first, last = sorted(source.choice(EDGES) + source.randint(-3, 3) for _ in range(2))
        first, last = max(0, first), min(0x10FFFF, max(0, last))
        spans = list(utf8_spans(first, last))
        near = {c + d for c in (*EDGES, first, last) for d in range(-3, 4)}
        for code in sorted(near):
            if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                continue
            data = chr(code).encode()
            hits = [
                s
                for s in spans
                if len(s) == len(data)
                and all(a <= b <= c for (a, c), b in zip(s, data, strict=True))
            ]
            assert len(hits) == (first <= code <= last)


@pytest.mark.parametrize(
    ("regex", "states"),
    [("(a|b)*abb|(a|b)*abb", 4), ("a{3}|a{3}b?", 5), ("(a|b)*a(a|b){6}", 128), ("[^a]", 9)],
)
def test_minimal_means_minimal(regex: str, states: int) -> None:
    assert compile_pattern(parse_regex(regex)).num_states == states


def test_every_state_is_reached_and_reaches_an_end() -> None:
    dfa = compile_pattern(parse_regex("(ab|a(b|c)*d|[^x]{2}é)+"))
    reached, live = {0}, set(np.flatnonzero(dfa.accepts).tolist())
    for _ in range(dfa.num_states):
        reached |= {int(t) for s in reached for t in dfa.table[s]} - {dfa.num_states}
        live |= {s for s in range(dfa.num_states) if live & set(dfa.table[s].tolist())}
    assert reached == live == set(range(dfa.num_states))


def test_fields_leave_out_what_may_be_left_out() -> None:
    needed = {"a": False, "b": True, "c": False, "d": False}
    parts = tuple((Text(c), need) for c, need in needed.items())
    dfa = compile_pattern(Fields(parts, Text(",")))
    for mask in range(16):
        given = [c for i, c in enumerate("abcd") if mask >> i & 1]
        assert dfa.matches(",".join(given)) == ("b" in given)
    assert not any(map(dfa.matches, ("b,", ",b", "b,a", "ab", "b,b")))


def test_a_mark_is_no_text() -> None:
    dfa = compile_pattern(seq("a", Mark("<q>"), Times(ANY), Mark("<r>")))
    assert dfa.marks == ("<q>", "<r>")
    assert len(dfa.symbol_class) == BYTES + 2
    inside = int(dfa.after("<q>")[dfa.run(b"a")])
    assert dfa.accepts[dfa.after("<r>")[dfa.run("é<r>".encode(), inside)]]
    assert not any(dfa.accepts[dfa.run(bytes((b,)), inside)] for b in range(256))
    assert dfa.after("<q>")[0] == dfa.num_states


def test_disjoint() -> None:
    one, other, third = (compile_pattern(parse_regex(s)) for s in ("a+b", "ab+c?", "b.*"))
    assert not disjoint(one, other)
    assert disjoint(one, third)
    quoted, bare = compile_pattern(seq(Mark("q"), "a")), compile_pattern(Text("a"))
    assert disjoint(quoted, bare)
    assert disjoint(bare, quoted)


def test_avoiding_leaves_out_texts_that_hold_another() -> None:
    dfa = compile_pattern(parse_regex("[a-c]{0,4}"))
    ends = compile_pattern(seq(Times(ANY), either("ab", "cc")))
    found = avoiding(dfa, ends)
    for count in range(5):
        for number in range(3**count):
            text = "".join("abc"[number // 3**i % 3] for i in range(count))
            assert found.matches(text) == ("ab" not in text and "cc" not in text)


def test_caps_and_an_empty_language() -> None:
    assert compile_pattern(parse_regex("(a|b)*a(a|b){6}"), max_states=128).num_states == 128
    with raises(TooLargeError, "more than 127 states"):
        compile_pattern(parse_regex("(a|b)*a(a|b){6}"), max_states=127)
    with raises(TooLargeError, "more than 100 states"):
        compile_pattern(parse_regex("(a|b)*a(a|b){6}"), max_states=100)
    with raises(TooLargeError, "400 ... before"):
        compile_pattern(parse_regex("(a|b)*a(a|b){9}"), max_states=100)
    with raises(TooLargeError, "100,000"):
        compile_pattern(parse_regex("(abc){50000}"))
    with raises(ConstraintError, "nothing"):
        compile_pattern(Chars(()))


@pytest.mark.slow
@pytest.mark.parametrize("regex", ["(a?){9000}", "(.*a){8000}", "((a?){90}b?){90}"])
def test_what_would_take_minutes_is_refused_in_seconds(regex: str) -> None:
    began = time.process_time()
    with raises(TooLargeError, "the form needs more than"):
        compile_pattern(parse_regex(regex))
    assert time.process_time() - began < 30


def test_two_automata_that_go_in_step_for_long_are_not_followed_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counters of 29 and 30 meet in each of their 870 pairs."""
    one, other = (compile_pattern(parse_regex(end)) for end in ("(a{29})*b", "(a{30})*c"))
    monkeypatch.setattr(dfa, "MAX_PAIRS", 800)
    with pytest.raises(TooLargeError, match="800 states"):
        disjoint(one, other)
    monkeypatch.setattr(dfa, "MAX_PAIRS", 900)
    assert disjoint(one, other)
