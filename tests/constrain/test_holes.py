"""Holes of one canvas against each of them by itself, and against enumeration."""

import re
from itertools import product
from math import log
from typing import Any

import numpy as np
import pytest
from answering import Classes
from facts import raises

from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.form import compiled, form_of
from mlx_diffgemma.constrain.holes import CommonClasses, Hole, HoleConstraints
from mlx_diffgemma.constrain.machine import Machine
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.errors import ConstraintError

TEXTS = [None, None, b"a", b"b", b"ab", b"c"]
VOCABULARY = vocabulary_of(TEXTS)
FILLERS = (0, 1)


def machine(pattern: str) -> Machine:
    form = form_of(pattern=pattern)
    assert form is not None
    return compiled(form, VOCABULARY, (), FILLERS)


ONE, OTHER = machine("(ab|c)*"), machine("[bc]+")


def hole(machine: Machine, rows: list[int], left: int) -> Hole:
    return Hole(machine, rows, left, machine.start)


def fits(text: str, tokens: tuple[int, ...]) -> bool:
    """A text of the pattern, then fillers, over the whole length."""
    count = next((i for i, t in enumerate(tokens) if t in FILLERS), len(tokens))
    written = b"".join(TEXTS[t] or b"" for t in tokens[:count])
    return all(t in FILLERS for t in tokens[count:]) and bool(re.fullmatch(text, written.decode()))


def softmax(z: Any) -> Any:
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_rows_follow_each_hole_and_others_are_free() -> None:
    rule = HoleConstraints([hole(ONE, [4, 1, 2], 3), hole(OTHER, [0], 1)])
    classes, rng = Classes(rule.classes, rule.num_classes), np.random.default_rng(0)
    z = rng.normal(size=(6, 6)) * 2
    p = softmax(z)
    logs, score, token = classes.read(z)
    bias, strain = rule.bias(logs)
    q = p * np.exp(bias.astype(np.float64))[:, rule.classes]
    strings = [t for t in product(range(6), repeat=3) if fits("(ab|c)*", t)]
    weights = [
        float(np.prod([p[row, v] for row, v in zip((4, 1, 2), t, strict=True)])) for t in strings
    ]
    for place, row in enumerate((4, 1, 2)):
        marginal = [
            sum(w for t, w in zip(strings, weights, strict=True) if t[place] == v) / sum(weights)
            for v in range(6)
        ]
        np.testing.assert_allclose(q[row], marginal, rtol=1e-5)
    np.testing.assert_allclose(
        q[0], np.where([0, 0, 0, 1, 0, 1], p[0], 0) / (p[0, 3] + p[0, 5]), rtol=1e-5
    )
    assert strain == pytest.approx(-log(sum(weights)) - log(p[0, 3] + p[0, 5]), rel=1e-9)
    np.testing.assert_array_equal(bias[[3, 5]], 0)
    tokens = rule.commit(logs, score, token)
    assert fits("(ab|c)*", (tokens[4], tokens[1], tokens[2]))
    assert tokens[0] in (3, 5)
    np.testing.assert_array_equal(tokens[[3, 5]], z[[3, 5]].argmax(axis=1))


def test_a_hole_alone_is_a_constraint() -> None:
    rng = np.random.default_rng(1)
    for length, left in ((4, 4), (2, 5), (3, 3)):
        rule = HoleConstraints([hole(ONE, list(range(length)), left)])
        alone = Constraint(ONE, left)
        z = rng.normal(size=(length, 6)) * 4
        common = Classes(rule.classes, rule.num_classes).read(z)
        own = Classes(alone.classes, alone.num_classes).read(z)
        bias, strain = rule.bias(common[0])
        expected, nats = alone.bias(own[0])
        np.testing.assert_allclose(
            bias[:, rule.classes], expected[:, alone.classes], rtol=1e-5, atol=1e-5
        )
        assert strain == pytest.approx(nats, rel=1e-12)
        np.testing.assert_array_equal(rule.commit(*common), alone.commit(*own))


def test_a_hole_that_the_canvas_cuts_can_still_end() -> None:
    """Of five positions two are in view, and then the rest."""
    first = hole(OTHER, [0, 1], 5)
    rule = HoleConstraints([first])
    z = np.full((2, 6), -9.0)
    z[:, 3] = 0
    classes = Classes(rule.classes, rule.num_classes)
    tokens = rule.commit(*classes.read(z)).tolist()
    assert tokens == [3, 3]
    assert OTHER.distance[OTHER.advance(OTHER.start, tokens)] <= 3
    with raises(ConstraintError, "token 2 ... 0"):
        OTHER.advance(OTHER.start, [2])


def test_a_hole_out_of_view_costs_nothing() -> None:
    rule = HoleConstraints([hole(ONE, [0], 4), hole(OTHER, [], 2)])
    logs, score, token = Classes(rule.classes, rule.num_classes).read(np.zeros((2, 6)))
    bias, strain = rule.bias(logs)
    assert strain > 0
    np.testing.assert_array_equal(bias[1], 0)
    assert rule.commit(logs, score, token)[1] == 0  # all are equal: the lowest id


def test_a_hole_that_is_too_short_is_named() -> None:
    with raises(ConstraintError, "hole 2 ... 2 tokens ... 1"):
        HoleConstraints([hole(ONE, [0], 1), hole(machine("[bc]{2}"), [1], 1)])


def test_many_holes_at_random_always_fit() -> None:
    patterns = ["(ab|c)*", "[bc]+", "a?b{1,3}"]
    machines = [machine(pattern) for pattern in patterns]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        which, lengths = rng.integers(0, 3, 4), rng.integers(1, 6, 4)
        rows = rng.permutation(int(lengths.sum()) + 3)
        parts = np.split(rows, np.cumsum(lengths))[:4]
        rule = HoleConstraints(
            [
                hole(machines[m], part.tolist(), len(part))
                for m, part in zip(which, parts, strict=True)
            ]
        )
        z = rng.normal(size=(len(rows), 6)) * 10
        tokens = rule.commit(*Classes(rule.classes, rule.num_classes).read(z))
        for m, part in zip(which, parts, strict=True):
            assert fits(patterns[m], tuple(tokens[part].tolist()))


def test_common_classes_are_the_rows_of_all_maps_that_differ() -> None:
    """Holes of one machine count once; a class of one machine is never cut needlessly."""
    machines = [machine(pattern) for pattern in ("(ab|c)*", "[bc]+", "a?b{1,3}", "c")]
    maps = np.stack([each.of for each in machines])
    for count in range(1, 5):
        common = CommonClasses([*machines[:count], machines[0]])
        assert common.machines == tuple(machines[:count])
        expected, _ = np.unique(maps[:count], axis=1, return_inverse=True)
        assert common.num_classes == expected.shape[1]
        for each in machines[:count]:
            np.testing.assert_array_equal(common.of_classes(each)[common.of], each.of)
