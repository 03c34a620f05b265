"""Rows by token classes, in MLX operations, against rows with the bias added to each logit.

Axes: R rows, V vocabulary, K classes.
"""

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from numpy.typing import NDArray

from mlx_diffgemma.diffusion import classes
from mlx_diffgemma.diffusion.classes import BLOCK, NOTHING, class_order
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.kernels.classes.launch import Blocks

V, K = 5003, 23
Doubles = NDArray[np.float64]


def classes_of(seed: int) -> NDArray[np.int32]:
    """Most ids in class 1; none in the last."""
    shares = np.array([0.05, 0.6, *[0.35 / (K - 3)] * (K - 3), 0.0])
    return np.random.default_rng(seed).choice(K, V, p=shares / shares.sum()).astype(np.int32)


def biased(logits: Logits, bias: Doubles, own: NDArray[np.int32]) -> Doubles:
    """The processed logits [R, V] with the bias of each id's class, in float64."""
    raw = np.array(logits.raw.astype(mx.float32)).astype(np.float64)
    temperature = np.float64(np.float32(logits.temperature))
    processed: Doubles = np.tanh(raw / logits.cap) * logits.cap / temperature
    return processed + bias[:, own]


def shares_of(x: Doubles) -> Doubles:
    shares: Doubles = np.exp(x - x.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_an_order_has_every_id_once_and_no_block_with_two_classes() -> None:
    own = classes_of(0)
    order = class_order(own, K)
    ids, ends = np.array(order.ids), np.array(order.ends)
    assert sorted(ids[ids != NOTHING].tolist()) == list(range(V))
    for label, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        members = ids[begin:end].ravel()
        count = int((own == label).sum())
        assert end - begin == -(-count // BLOCK)
        assert members[:count].tolist() == np.flatnonzero(own == label).tolist()
        assert (members[count:] == NOTHING).all()
        assert (np.array(order.block_class)[begin:end] == label).all()
    assert len(ids) == ends[-1]


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_one_pass_over_the_logits_is_enough(dtype: mx.Dtype) -> None:
    """Rows from nearly flat to capped, at temperatures of the first step and far below."""
    for seed, temperature in ((0, 0.8), (1, 0.4), (2, 0.1)):
        random, own = np.random.default_rng(seed), classes_of(seed)
        raw = random.normal(size=(5, V)) * np.array([0.1, 1, 5, 12, 60])[:, None]
        bias = np.where(random.random((5, K)) < 0.3, -np.inf, random.normal(size=(5, K)) * 20)
        bias[:, 1] = random.normal(size=5)
        bias = bias.astype(np.float32).astype(np.float64)
        logits = Logits(mx.array(raw.astype(np.float32)).astype(dtype), 30.0, temperature)
        order = class_order(own, K)
        made = classes.both_halves(
            logits, order, mx.array(bias.astype(np.float32)), mx.array(random.random((5, 2)))
        )
        log_mass, score, token, best, entropy, drawn = map(np.array, made)
        free, held = biased(logits, np.zeros((5, K)), own), biased(logits, bias, own)
        shares = shares_of(held)
        assert held[np.arange(5), best] == pytest.approx(held.max(axis=1), abs=2e-4)
        exact = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
        assert_close(entropy, exact, 2e-5 / temperature, "entropy")
        assert (shares[np.arange(5), drawn] > 0).all()
        with np.errstate(divide="ignore"):
            top = free.max(axis=1, keepdims=True)
            mass = np.stack([np.bincount(own, row, K) for row in np.exp(free - top)])
            logs = np.log(mass / mass.sum(axis=1, keepdims=True))
        assert np.array_equal(np.isinf(log_mass), np.bincount(own, minlength=K)[None] == 0 * mass)
        seen = np.isfinite(logs)
        assert_close(log_mass[seen], logs[seen], 2e-5 / temperature, "log mass")
        for label in range(K - 1):
            ids = np.flatnonzero(own == label)
            assert_close(score[:, label], free[:, ids].max(axis=1), 2e-5 / temperature, "score")
            chosen = free[np.arange(5), token[:, label]]
            assert chosen == pytest.approx(free[:, ids].max(axis=1), abs=1e-4)
        assert (token[:, K - 1] == NOTHING).all()


def test_entropy_does_not_cancel_where_a_row_is_nearly_certain() -> None:
    """A second token 10 nats below the first: 5e-4 nats, of logits where an ulp is 4e-6."""
    own = np.zeros(300, np.int32)
    own[7] = 1
    raw = np.full((1, 300), -1e4, np.float32)
    raw[0, [7, 8]] = 0.0, 0.0
    order = class_order(own, 2)
    logits = Logits(mx.array(raw), 30.0, 0.1)
    seen = classes.read(logits, order)
    _, entropy, _ = classes.sample(
        logits, seen, order, mx.array([[50.0, 60.0]]), mx.array([[0.5, 0.5]])
    )
    share = np.exp(-10.0) / (1 + np.exp(-10.0))
    exact = -share * np.log(share) - (1 - share) * np.log1p(-share)
    assert_close(np.array(entropy) / exact, [1.0], 1e-3, "entropy, of the exact one")


def test_draws_follow_the_biased_distribution() -> None:
    """Chi-square of 40,000 draws, what is expected fewer than 5 times left out."""
    random, own, count = np.random.default_rng(3), classes_of(3), 40_000
    order = class_order(own, K)
    bias = np.where(random.random(K) < 0.3, -np.inf, random.normal(size=K)).astype(np.float32)
    raw = mx.array(random.normal(size=(1, V)).astype(np.float32))
    logits = Logits(raw, 30.0, 0.5)
    seen = classes.read(logits, order)
    part, drawn = 4000, []
    many = Blocks(*(mx.broadcast_to(a, (part, *a.shape[1:])) for a in seen.arrays))
    rows = Logits(mx.broadcast_to(raw, (part, V)), 30.0, 0.5)
    wide = mx.broadcast_to(mx.array(bias), (part, K))
    for _ in range(count // part):
        uniforms = mx.array(random.random((part, 2)).astype(np.float32))
        drawn.append(np.array(classes.sample(rows, many, order, wide, uniforms)[2]))
    found = np.bincount(np.concatenate(drawn), minlength=V)
    shares = shares_of(biased(logits, bias[None].astype(np.float64), own))[0]
    kept = shares * count >= 5
    statistic = ((found[kept] - shares[kept] * count) ** 2 / (shares[kept] * count)).sum()
    assert statistic < kept.sum() + 5 * (2 * kept.sum()) ** 0.5
    assert not found[shares == 0].any()
