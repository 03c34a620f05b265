"""The least automaton, against a plain loop, and without looking at all states in each pass."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_diffgemma.constrain import minimize
from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.form import form_of
from mlx_diffgemma.constrain.minimize import merged
from mlx_diffgemma.constrain.nfa import TooLargeError

MOST = 100
MANY = 4000


def drawn(rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """A table with dead ends, dead states, states that are never reached, and equal ones."""
    Q, B = rng.integers(1, 25), rng.integers(1, 4)
    table = rng.integers(-1, Q, (Q, B))
    if rng.random() < 0.4:  # a chain: it goes forward alone
        table = np.arange(Q)[:, None] + rng.integers(1, 3, (Q, B))
    table[(table >= Q) | (rng.random((Q, B)) < rng.choice([0, 0.4]))] = -1
    return table.astype(np.int32), rng.random(Q) < rng.random()


def plainly(table: NDArray[np.int32], accepts: NDArray[np.bool_]) -> list[tuple[int, ...]] | None:
    """Whether each of the least states accepts, and where it leads; None where nothing is accepted.

    Breadth first. Groups are parted by where they lead, Q + 1 times.
    """
    Q, B = table.shape
    same = [int(each) for each in accepts] + [0]
    for _ in range(Q + 1):
        rows = [(same[q], *(same[table[q, b]] for b in range(B))) for q in range(Q)]
        rows.append((same[-1],) * (B + 1))
        names = {row: number for number, row in enumerate(sorted(set(rows)))}
        same = [names[row] for row in rows]
    if same[0] == same[-1]:
        return None
    order: list[Any] = [0]
    found = {same[0], same[-1]}
    for state in order:
        for after in table[state].tolist():
            if same[after] not in found:
                found.add(same[after])
                order.append(after)
    place = {same[state]: number for number, state in enumerate(order)}
    dead = len(order)
    return [
        (bool(accepts[q]), *(place.get(same[after], dead) for after in table[q].tolist()))
        for q in order
    ]


def test_the_least_automaton_is_that_of_a_plain_loop() -> None:
    empty = 0
    for seed in range(400):
        table, accepts = drawn(np.random.default_rng(seed))
        wanted, found = plainly(table, accepts), merged(table, accepts, MOST)
        if wanted is None or found is None:
            assert wanted is None
            assert found is None
            empty += 1
            continue
        leads, ends = found
        assert [(bool(a), *row) for a, row in zip(ends, leads.tolist(), strict=True)][:-1] == wanted
        assert set(leads[-1].tolist()) == {len(wanted)}
        assert not ends[-1]
    assert 20 < empty < 300


@pytest.mark.parametrize("pattern", ["[a-z]{1500}", "[a-z]{0,1500}", '("[a-z]{0,40}",){30}'])
def test_a_pass_looks_at_what_may_have_changed(
    monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    """A chain is told apart a state a pass: with all states in each they would be a million."""
    split, looked_at = minimize._split, 0

    def counted(group: Any, sizes: Any, states: Any, keys: Any) -> Any:
        nonlocal looked_at
        looked_at += len(states)
        return split(group, sizes, states, keys)

    monkeypatch.setattr(minimize, "_split", counted)
    form = form_of(pattern=pattern)
    assert form is not None
    states = compile_pattern(form.pattern, MANY).num_states
    assert states > 1000
    assert looked_at < 40 * states


def test_as_many_states_as_may_be_are_not_too_many() -> None:
    form = form_of(pattern="[a-z]{0,500}")
    assert form is not None
    assert compile_pattern(form.pattern, 501).num_states == 501
    with pytest.raises(TooLargeError, match="more than 500 states"):
        compile_pattern(form.pattern, 500)
