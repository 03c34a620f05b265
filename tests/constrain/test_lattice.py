"""Forward-backward against enumeration in exact fractions: six tokens, at most six positions."""

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import log, prod
from typing import Any

import numpy as np
import pytest
from facts import raises
from numpy.typing import NDArray

from mlx_diffgemma.constrain.classes import token_classes
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.dfa import Dfa, compile_pattern, smallest
from mlx_diffgemma.constrain.machine import Channel, Controls, Machine, machine
from mlx_diffgemma.constrain.regex import parse_regex
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.errors import ConstraintError

TEXTS = [None, None, b"a", b"b", b"ab", b"ba"]  # 0 ends and fills, 1 fills
END, PAD = 0, 1
Texts = Sequence[bytes | None]
Tokens = tuple[int, ...]


def machine_of(dfa: Dfa, texts: Texts = TEXTS, channel: Channel | None = None) -> Machine:
    vocab = vocabulary_of(texts)
    controls = Controls((END,), (END, PAD), channel)
    return machine(vocab, dfa, token_classes(vocab.trie, dfa), controls)


def regex(text: str) -> Dfa:
    return compile_pattern(parse_regex(text))


def random_dfa(source: random.Random) -> Dfa:
    symbol_class = np.zeros(256, np.int64)
    symbol_class[ord("a")], symbol_class[ord("b")] = 1, 2
    while True:
        states = source.randint(2, 5)
        table = [[-1, *(source.randint(-1, states - 1) for _ in "ab")] for _ in range(states)]
        accepts = np.array([source.random() < 0.4 for _ in range(states)])
        try:
            return smallest(np.array(table, np.int32), symbol_class, accepts)
        except ConstraintError:
            continue


def is_answer(dfa: Dfa, tokens: Tokens, texts: Texts = TEXTS) -> bool:
    """True for a text the automaton accepts, an end, and fillers: said without the machine."""
    if END not in tokens:
        return False
    end = tokens.index(END)
    written = [texts[t] for t in tokens[:end]]
    if None in written or any(t not in (END, PAD) for t in tokens[end:]):
        return False
    return dfa.matches(b"".join(filter(None, written)))


def allowed(dfa: Dfa, L: int, left: int) -> list[Tokens]:
    """Canvases that are, or within `left` tokens can become, an answer."""
    longer = [t for t in product(range(6), repeat=left) if is_answer(dfa, t)]
    return sorted({t[:L] for t in longer})


def random_rows(source: random.Random, L: int) -> list[list[Fraction]]:
    rows = []
    for _ in range(L):
        weights = [source.choice([0, 1, 1, 2, 5, 10**6, 10**12]) for _ in range(6)]
        weights[source.randrange(6)] += 1
        rows.append([Fraction(w, sum(weights)) for w in weights])
    return rows


def log_masses(machine: Machine, p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms [L, K] of the classes' masses."""
    mass = np.stack([np.bincount(machine.of, row, machine.num_classes) for row in p])
    with np.errstate(divide="ignore"):
        logs: NDArray[np.float64] = np.log(mass)
    return logs


def best_of(machine: Machine, p: NDArray[np.float64]) -> tuple[Any, Any]:
    """The largest logarithm [L, K] in each class, and whose it is; the first of equals."""
    score = np.full((len(p), machine.num_classes), -np.inf, np.float32)
    token = np.zeros(score.shape, np.int32)
    with np.errstate(divide="ignore"):
        logs = np.log(p)
    for label in np.unique(machine.of):
        ids = np.flatnonzero(machine.of == label)
        at = logs[:, ids].argmax(axis=1)
        score[:, label], token[:, label] = logs[np.arange(len(p)), ids[at]], ids[at]
    return score, token


def factors(rule: Constraint, mass: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """g [L, K] in 64 bits, and log Z."""
    end = rule.machine.distance <= rule.left - len(mass)
    done = rule.lattice.forward(mass, rule.state, end)
    return rule.lattice.factors(done), done.log_z


def cases(seeds: range) -> Iterator[Any]:
    for seed in seeds:
        source = random.Random(seed)
        L = source.randint(1, 5)
        left = min(6, L + source.choice([0, 0, 1, 2]))
        yield pytest.param(source, L, left, id=f"{seed}-{L}-{left}")


@pytest.mark.parametrize(("source", "L", "left"), [*cases(range(100, 106))])
def test_equals_enumeration(source: random.Random, L: int, left: int) -> None:
    compare(source, L, left)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "L", "left"), [*cases(range(60)), pytest.param(random.Random(99), 6, 6, id="six")]
)
def test_many_equal_enumeration(source: random.Random, L: int, left: int) -> None:
    compare(source, L, left)


def compare(source: random.Random, L: int, left: int) -> None:
    dfa, rows = random_dfa(source), random_rows(source, L)
    strings, made = allowed(dfa, L, left), machine_of(dfa)
    if not strings:
        assert made.distance[made.start] > left or left > L  # too long, or cut without a way on
        return
    weights = {
        t: prod((row[v] for row, v in zip(rows, t, strict=True)), start=Fraction(1))
        for t in strings
    }
    total = sum(weights.values())
    p = np.array([[float(x) for x in row] for row in rows])
    logs = log_masses(made, p)
    if total == 0:
        with raises(ConstraintError, "no text fits"):
            Constraint(made, left).bias(logs)
        with raises(ConstraintError, "no text fits"):
            Constraint(made, left).commit(logs, *best_of(made, p))
        return
    rule = Constraint(made, left)
    g, log_z = factors(rule, np.exp(logs))
    assert log_z == pytest.approx(log(total.numerator) - log(total.denominator), abs=1e-11)
    exact = np.array(
        [
            [float(sum(w for t, w in weights.items() if t[i] == v) / total) for v in range(6)]
            for i in range(L)
        ]
    )
    np.testing.assert_allclose(p * g[:, made.of], exact, rtol=1e-11, atol=1e-300)
    bias, strain = rule.bias(logs)
    assert strain == max(0.0, -log_z)
    np.testing.assert_allclose(p * np.exp(bias)[:, made.of], exact, rtol=2e-6, atol=1e-30)
    check_commit(made, weights, tuple(rule.commit(logs, *best_of(made, p)).tolist()))
    assert rule.left == left - L


def check_commit(made: Machine, weights: dict[Tokens, Fraction], chosen: Tokens) -> None:
    """The likeliest way through the states, and on it the likeliest string."""

    def way(tokens: Tokens) -> tuple[int, ...]:
        lengths = range(1, len(tokens) + 1)
        return tuple(made.advance(made.start, tokens[:n]) for n in lengths)

    ways: dict[tuple[int, ...], Fraction] = {}
    for tokens, weight in weights.items():
        ways[way(tokens)] = ways.get(way(tokens), Fraction(0)) + weight
    assert ways[way(chosen)] == max(ways.values())
    on_it = [weight for tokens, weight in weights.items() if way(tokens) == way(chosen)]
    assert weights[chosen] >= max(on_it) * (1 - Fraction(1, 10**6))  # logits of 32 bits


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_draws_position_by_position_follow_the_joint_distribution(seed: int) -> None:
    """Chi-square over strings: each token is drawn from what the bias leaves behind those before.

    Pinning what was drawn, and asking again, must give the joint distribution of the whole.
    """
    source, draws, L = random.Random(100 + seed), 600, 3
    while len(strings := allowed(dfa := random_dfa(source), L, L)) < 4:
        pass
    weights = [[source.randint(1, 4) for _ in range(6)] for _ in range(L)]
    p = np.array([[w / sum(row) for w in row] for row in weights])
    made, rng = machine_of(dfa), np.random.default_rng(seed)
    seen: dict[Tokens, int] = {}
    for _ in range(draws):
        tokens = drawn(made, p, rng)
        seen[tokens] = seen.get(tokens, 0) + 1
    share = np.array([prod(p[i, t] for i, t in enumerate(s)) for s in strings])
    expected = share / share.sum() * draws
    assert set(seen) <= set(strings)
    counts = np.array([seen.get(s, 0) for s in strings])
    large = expected >= 5
    expected = np.append(expected[large], expected[~large].sum())
    counts = np.append(counts[large], counts[~large].sum())
    keep = expected > 0
    statistic = ((counts[keep] - expected[keep]) ** 2 / expected[keep]).sum()
    free = max(int(keep.sum()) - 1, 1)
    assert statistic < free + 4.5 * (2 * free) ** 0.5 + 6


def drawn(made: Machine, p: NDArray[np.float64], rng: np.random.Generator) -> Tokens:
    rule, tokens = Constraint(made, len(p)), []
    for i in range(len(p)):
        g, _ = factors(rule, np.exp(log_masses(made, p[i:])))
        row = p[i] * g[0, made.of]
        tokens.append(int(rng.choice(6, p=row / row.sum())))
        rule.advance(tokens[-1:])
    return tuple(tokens)


def test_products_that_leave_float64() -> None:
    """256 positions, each 1e-44 for what is allowed: a pass without logs would be 0."""
    made = machine_of(regex("(ab)*|b{200}"))
    p = np.full((256, 6), 1e-44)
    p[:, PAD] = 1.0
    rule = Constraint(made, 256)
    bias, strain = rule.bias(log_masses(made, p))
    q = p * np.exp(bias.astype(np.float64))[:, made.of]
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)
    assert strain > 100
    assert rule.commit(log_masses(made, p), *best_of(made, p)).tolist() == [END] + [PAD] * 255


def test_a_class_that_is_far_below_counts() -> None:
    """A mass of e^-300 nats, the only one allowed, has a probability of 1 there."""
    made = machine_of(regex("ab"))
    logs = np.full((2, made.num_classes), -np.inf)
    logs[0, made.of[4]], logs[1, made.of[END]] = -300.0, -1.0
    logs[0, made.of[PAD]] = 0.0
    bias, strain = Constraint(made, 2).bias(logs)
    assert strain == pytest.approx(301)
    assert bias[0, made.of[4]] == pytest.approx(300)
    assert np.isneginf(bias[0, made.of[PAD]])


def test_a_commit_looks_at_ways_and_not_at_strings() -> None:
    """Text that is 90 % likely, over 95 tokens, against an end of 10 %."""
    texts = [None, None, *(bytes((b,)) for b in range(0x21, 0x80))]
    made = machine_of(regex("[!-\x7f]*"), texts)
    p = np.full((20, len(texts)), 0.9 / (len(texts) - 2))
    p[:, END], p[:, PAD] = 0.1, 0.0
    logs = log_masses(made, p)
    assert (Constraint(made, 40).commit(logs, *best_of(made, p)) != END).all()
    q = p * np.exp(Constraint(made, 40).bias(logs)[0])[:, made.of]
    assert q[0, END] < 1e-9
    assert q[19, END] < 0.12


@pytest.mark.parametrize(("needed", "opening"), [(False, {2, 4, 6}), (True, {6})])
def test_a_thought_then_the_text(needed: bool, opening: set[int]) -> None:
    texts = [*TEXTS, None, None]  # 6 opens, 7 closes a thought
    dfa, L = regex("ab"), 5
    made = machine_of(dfa, texts, Channel(6, 7, needed))
    p = np.full((L, 8), 1 / 8)
    bias, strain = Constraint(made, L).bias(log_masses(made, p))
    q = p * np.exp(bias)[:, made.of]
    assert set(np.flatnonzero(q[0] > 0)) == opening
    strings = 0
    for t in product(range(8), repeat=L):
        close = t.index(7) if 7 in t else 0
        thought = t[0] == 6 and close > 0 and all(texts[x] for x in t[1:close])
        after = thought and is_answer(dfa, t[close + 1 :], texts)
        strings += after or (not needed and is_answer(dfa, t, texts))
    assert strain == pytest.approx(L * log(8) - log(strings), abs=1e-12)


def test_pinned_positions() -> None:
    """A pinned position holds its class for certain; the others are conditioned on it."""
    dfa = regex("(a|b){3}")
    made = machine_of(dfa)
    p = np.full((4, 6), 1 / 6)
    mass = np.exp(log_masses(made, p))
    mass[1] = 0
    mass[1, made.of[4]] = 1  # "ab": so only one more letter, before or behind
    with np.errstate(divide="ignore"):
        bias, _ = Constraint(made, 4).bias(np.log(mass))
    q = p * np.exp(bias)[:, made.of]
    strings = [t for t in allowed(dfa, 4, 4) if t[1] == 4]
    for i in (0, 2, 3):
        exact = np.array([sum(t[i] == v for t in strings) for v in range(6)]) / len(strings)
        np.testing.assert_allclose(q[i], exact, atol=1e-6)
    mass[0] = 0
    mass[0, made.of[5]] = 1
    with np.errstate(divide="ignore"), raises(ConstraintError, "no text fits"):
        Constraint(made, 4).bias(np.log(mass))


def test_every_split_into_canvases_gives_an_answer() -> None:
    """Valid and in time, whatever the network says and wherever canvases end."""
    dfa = regex(r"(ab|ba)*(aa|bb)")
    made, rng = machine_of(dfa), np.random.default_rng(5)
    for total in range(3, 10):
        for canvas in range(1, total + 1):
            rule, tokens = Constraint(made, total), list[int]()
            while rule.left > 0:
                z = rng.normal(size=(canvas, 6)) * 8
                p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
                left, logs = rule.left, log_masses(made, p)
                q = p * np.exp(rule.bias(logs)[0].astype(np.float64))[:, made.of]
                np.testing.assert_allclose(q[: min(left, canvas)].sum(1), 1, atol=1e-5)
                tokens += rule.commit(logs, *best_of(made, p))[:left].tolist()
            assert is_answer(dfa, tuple(tokens)), (total, canvas, tokens)


def test_only_fillers_stand_behind_the_last_token() -> None:
    made = machine_of(regex("[ab]*"))
    p = np.full((5, 6), 1 / 6)
    rule = Constraint(made, 3)
    bias, _ = rule.bias(log_masses(made, p))
    for row in (3, 4):
        assert set(np.flatnonzero(np.isfinite(bias[row])[made.of])) == {END, PAD}
    tokens = rule.commit(log_masses(made, p), *best_of(made, p))
    assert set(tokens[3:].tolist()) <= {END, PAD}
    assert rule.left == 0


def test_a_length_below_the_shortest_answer_is_refused_with_both() -> None:
    with raises(ConstraintError, "2 tokens ... 1"):
        Constraint(machine_of(regex("ab")), 1)


def test_the_next_token_is_allowed_where_the_lattice_gives_it_mass() -> None:
    dfa = regex("(ab|b)*a?")
    made = machine_of(dfa)
    uniform = np.full((6, 6), 1 / 6)
    for left in range(1, 6):
        for before in ((), (2,), (3,), (2, 3), (4,)):
            rule = Constraint(made, 9)
            rule.advance(before)
            rule.left = left
            if made.distance[rule.state] > left:
                continue
            bias, _ = rule.bias(log_masses(made, uniform[:left]))
            one = np.isfinite(bias[0]) & (np.bincount(made.of, minlength=made.num_classes) > 0)
            assert (
                rule.allowed() & (np.bincount(made.of, minlength=made.num_classes) > 0) == one
            ).all()


def test_a_token_that_is_not_allowed_is_named() -> None:
    rule = Constraint(machine_of(regex("ab")), 5)
    with raises(ConstraintError, "token 3 ... 0"):
        rule.advance([3])
    rule.advance([2, 3, END])
    assert rule.ended
    assert rule.left == 2
    with raises(ConstraintError, "token 99 ... 1"):
        rule.advance([PAD, 99])
