"""The order in which examples are taken."""

import numpy as np
import pytest

from mlx_diffgemma.finetune.data.examples import Example
from mlx_diffgemma.finetune.data.order import Epochs, Sources, shuffled


def examples(count: int, first: int = 0) -> list[Example]:
    """Examples of 3 to 12 tokens, whose prompt is their number."""
    return [Example(np.zeros(3 + n * 7 % 10), n) for n in range(first, first + count)]


def taken(source: Epochs | Sources, numbers: range) -> list[int]:
    return [source[number].prompt for number in numbers]


@pytest.mark.parametrize("block", [0, 4])
def test_every_example_comes_once_an_epoch(block: int) -> None:
    epochs = Epochs(examples(11), seed=3, block=block)
    orders = [taken(epochs, range(11 * epoch, 11 * epoch + 11)) for epoch in range(5)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len(set(map(tuple, orders))) == 5
    assert orders != [taken(Epochs(examples(11), 4, block=block), range(11))] * 5


def test_any_number_may_be_asked_for_first() -> None:
    """A resumed run begins in the middle."""
    whole = taken(Epochs(examples(7), seed=1), range(28))
    assert [Epochs(examples(7), seed=1)[number].prompt for number in reversed(range(28))] == [
        *reversed(whole)
    ]
    backwards = Epochs(examples(7), seed=1)
    assert [backwards[number].prompt for number in reversed(range(28))] == [*reversed(whole)]


def test_an_order_is_uniform() -> None:
    """Each of the 24 orders of four, 20 times: chi-square with 23 degrees of freedom."""
    seen: dict[tuple[int, ...], int] = {}
    for epoch in range(480):
        order = tuple(shuffled(5, 4, epoch, 0, 16).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert sum((seen.get(order, 0) - 20) ** 2 / 20 for order in seen) < 50  # p = 0.001
    assert len(seen) == 24


def spreads(epochs: Epochs, block: int) -> list[int]:
    """The difference between the longest and the shortest example of each of 100 blocks."""
    lengths = [len(epochs[number].ids) for number in range(100 * block)]
    return [int(np.ptp(lengths[first : first + block])) for first in range(0, len(lengths), block)]


def test_blocks_hold_similar_lengths_and_begin_where_batches_do() -> None:
    """Also in later epochs, whose first example stands inside a batch."""
    grouped = spreads(Epochs(examples(301), seed=0, block=8), 8)
    assert np.mean(grouped) < 2
    assert np.mean(spreads(Epochs(examples(301), seed=0), 8)) > 6


def test_the_same_examples_do_not_always_meet() -> None:
    """A window over all of few examples would make the same blocks in each epoch."""
    epochs = Epochs([Example(np.zeros(n), n) for n in range(1, 65)], seed=0, block=8)
    orders = [np.array(taken(epochs, range(64 * e, 64 * e + 64))).reshape(8, 8) for e in range(9)]
    met = {tuple(sorted(block)) for order in orders for block in order}
    assert len(met) > 60


def test_blocks_are_not_sorted_by_length() -> None:
    epochs = Epochs(examples(96), seed=0, block=8)
    lengths = [len(epochs[8 * number].ids) for number in range(12)]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize("shares", [(0.5,), (0.1,), (0.3, 0.45), (0.25, 0.25, 0.25), (1 / 3,)])
def test_a_mix_takes_its_share_of_any_examples(shares: tuple[float, ...]) -> None:
    """To within one of each source before it, and each source in epochs of its own."""
    others = [Epochs(examples(5, 100 * n), 2, n) for n in range(1, len(shares) + 1)]
    sources = Sources(Epochs(examples(9), 2), tuple(zip(others, shares, strict=True)))
    found = np.array(taken(sources, range(1000)))
    for number, share in enumerate((1 - sum(shares), *shares)):
        here = found // 100 == number
        for window in (10, 100, 1000):
            counts = here.reshape(-1, window).sum(axis=1)
            assert abs(counts - share * window).max() <= len(shares) + 1
        size = 5 if number else 9
        own = found[here][: here.sum() // size * size].reshape(-1, size)
        assert (np.sort(own, axis=1) == np.arange(size) + 100 * number).all()


def test_the_seed_decides_where_a_mix_begins() -> None:
    begun = set[int]()
    for seed in range(25):
        own, other = Epochs(examples(1), seed), Epochs(examples(1, 9), seed, 1)
        begun.add(taken(Sources(own, [(other, 0.1)]), range(10)).index(9))
    assert len(begun) > 5
