"""Calls of tools beside a text: an answer is one or the other, with the shares that both have."""

import json
from typing import Any

import numpy as np
import pytest
from facts import raises
from test_calls import IDS, PING, VOCABULARY, WEATHER, calls_in, run, tool
from walks import text_of, walks

from mlx_diffgemma.constrain.calls import MARKS
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.form import (
    beside,
    compiled,
    form_of,
    require_automaton,
    stripped,
    tools_form,
)
from mlx_diffgemma.constrain.machine import Channel, Machine
from mlx_diffgemma.constrain.request import Form
from mlx_diffgemma.constrain.tables import automaton_of, vocabulary_of
from mlx_diffgemma.errors import ConstraintError

OPENING, CLOSING, QUOTE = MARKS
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["x"],
}
STOP, FILLER = 1, 0


def text(**given: Any) -> Form:
    form = form_of(**given)
    assert form is not None
    return form


def calls(*tools: Any) -> Form:
    return tools_form(tools, "required")


def test_an_answer_is_a_text_or_calls_and_never_both() -> None:
    dfa = automaton_of(beside(text(schema=POINT), calls(WEATHER, PING)))
    ping = (OPENING, "call:ping{}", CLOSING)
    assert run(dfa, '{"x": 1}')
    assert run(dfa, '```json\n{"x": 1}\n```')
    assert run(dfa, *ping)
    assert run(dfa, *ping, *ping)
    for mixed in (('{"x": 1}', *ping), (*ping, '{"x": 1}'), (" ", *ping), (*ping, "\n"), ()):
        assert not run(dfa, *mixed)


def test_what_is_accepted_is_one_of_both() -> None:
    dfa, kinds = automaton_of(beside(text(schema=POINT), calls(WEATHER, PING))), set()
    for symbols in walks(dfa, 60, 0):
        written = text_of(symbols, dfa.marks)
        called = written.startswith(OPENING)
        kinds.add(called)
        if called:
            assert all(call is not None for call in calls_in(written))
        else:
            assert isinstance(json.loads(stripped(written))["x"], int)
    assert kinds == {False, True}


def test_a_text_may_hold_what_would_end_a_calls_string() -> None:
    said = tool("t", {"properties": {"s": {"type": "string"}}})
    dfa = automaton_of(beside(text(pattern=r'[<|">]{5}'), calls(said)))
    assert run(dfa, "<|", '"|>')
    assert not run(dfa, OPENING, "call:t{s:", QUOTE, "<|", '"|>', QUOTE, "}", CLOSING)
    assert run(dfa, OPENING, "call:t{s:", QUOTE, '<|"|', QUOTE, "}", CLOSING)


def masses(machine: Machine, log_p: np.ndarray) -> np.ndarray:
    """The logarithms [L, K] of what log_p [L, V] gives each class."""
    found = np.full((len(log_p), machine.num_classes), -np.inf)
    for label in range(machine.num_classes):
        if (members := machine.of == label).any():
            found[:, label] = np.logaddexp.reduce(log_p[:, members], axis=1)
    return found


@pytest.mark.parametrize(
    ("channel", "left"),
    [(None, 24), (None, 40), (Channel(5, 6), 24), (Channel(5, 6, needed=True), 24)],
)
def test_both_have_the_share_that_the_model_gives_them(channel: Channel | None, left: int) -> None:
    """The two are disjoint: Z is the sum of theirs, each token's bias the mean by their Z.

    left: tokens, of which a canvas has 24. A thought that is open at its end would be of both.
    """
    vocabulary = vocabulary_of([None] * 7 + [bytes((b,)) for b in range(256)])
    forms = text(schema=POINT), calls(PING, tool("f", {"properties": {"n": {"type": "integer"}}}))
    log_p = np.log(np.random.default_rng(left).dirichlet(np.full(len(vocabulary), 0.3), 24))
    biases, shares = [], []
    for form in (*forms, beside(*forms)):
        made = compiled(form, vocabulary, (STOP,), (FILLER, STOP), channel, IDS)
        bias, strain = Constraint(made, left).bias(masses(made, log_p))
        biases.append(np.exp(bias.astype(np.float64))[:, made.of])
        shares.append(np.exp(-strain))
    *each, both = shares
    assert both == pytest.approx(sum(each), rel=1e-12, abs=0)
    expected = sum(share * bias for share, bias in zip(each, biases, strict=False)) / both
    np.testing.assert_allclose(biases[-1], expected, rtol=1e-5, atol=1e-300)


def test_the_shortest_answer_is_the_shorter_one() -> None:
    either = beside(text(pattern="a{30}"), calls(PING))
    made = compiled(either, VOCABULARY, (STOP,), (FILLER, STOP), None, IDS)
    shortest = len("call:ping{}") + 3
    assert made.distance[made.start] == shortest
    assert made.distance[made.advance(made.start, [6 + ord("a")])] == 30


def test_a_choice_that_cannot_be_written_is_named_beside_calls() -> None:
    letters = vocabulary_of([None] * 6 + [bytes((b,)) for b in b"abcdefgilnp:{}"])
    either = beside(text(choices=["a", "a z"]), calls(PING))
    with raises(ConstraintError, "'a z' ... ' '"):
        compiled(either, letters, (STOP,), (FILLER, STOP), None, IDS)


def test_what_is_too_large_together_says_what_to_shorten() -> None:
    long = text(schema={"type": "string", "maxLength": 200})
    other = calls(tool("note", {"properties": {"text": {"type": "string", "maxLength": 250}}}))
    require_automaton(long)
    require_automaton(other)
    said = "schema and the tools together ... 4,000 states ... maxLength 250 ... maxLength 200"
    with raises(ConstraintError, said):
        require_automaton(beside(long, other))


def test_forms_of_the_same_words_are_told_apart() -> None:
    one, other = text(schema=POINT), calls(PING)
    assert len({one, other, beside(one, other), beside(text(schema={}), other)}) == 4
    assert beside(one, other) == beside(text(schema=dict(POINT)), calls(PING))
