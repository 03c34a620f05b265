"""A step whose logits are divided by ids decides as one that has all of them."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from metal_sim import simulated
from replayed import together

from mlx_diffgemma.diffusion import records, sampler
from mlx_diffgemma.diffusion.records import OwnRows, merged, own_records
from mlx_diffgemma.diffusion.sampler import Logits, statistics
from mlx_diffgemma.diffusion.soft import OwnPart
from mlx_diffgemma.kernels.denoise.launch import SLICE
from mlx_diffgemma.model.embedding import Embedding
from mlx_diffgemma.model.tables import DenseTable
from mlx_diffgemma.model.vocabulary import Vocabulary
from mlx_diffgemma.share.share import Share, cuts

V, H, F, UNIT = 131, 8, 40, 16


def logits_of(dtype: mx.Dtype, seed: int = 0) -> Logits:
    """Rows from flat to certain, the last with its largest logit twice, in two slices."""
    raw = np.random.default_rng(seed).normal(size=(F, V)) * np.geomspace(0.1, 30, F)[:, None]
    raw[-1, [5, 70]] = 80
    return Logits(mx.array(raw.astype(np.float32)).astype(dtype), 30.0, 0.7)


def divided(share: Share) -> Vocabulary:
    return Vocabulary(share, tuple(cuts(V, share.size, UNIT)), UNIT)


def rows_of(share: Share, logits: Logits, chunk: int = 16) -> OwnRows:
    own = divided(share)
    embedding = Embedding(DenseTable(mx.zeros((1, H))), V, H, logits.raw.dtype, own)
    mine = replace(logits, raw=own.columns(logits.raw))
    parts = [mine.of_rows(mx.arange(at, min(at + chunk, F))) for at in range(0, F, chunk)]
    return OwnRows.of([(part, own_records(part, own, False)) for part in parts], embedding)


UNIFORMS = mx.array(np.random.default_rng(3).uniform(1e-6, 1 - 1e-6, (F, 2)).astype(np.float32))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=["float32", "bfloat16"])
def test_the_findings_are_those_of_whole_logits(
    ranks: int, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "SLICE", UNIT)
    logits = logits_of(dtype)
    best, entropy, drawn = sampler.sample(logits, UNIFORMS)
    x = statistics(logits.processed())
    rounded = logits.processed().astype(dtype).astype(mx.float32)
    top = x.processed.max(axis=-1, keepdims=True)
    mass = mx.exp(rounded - top).sum(axis=-1, keepdims=True)

    def seen(share: Share) -> Any:
        found = rows_of(share, logits).seen(UNIFORMS)
        mx.eval(found.arrays)
        return found, dict(share.sent), dict(share.calls)

    longest = max(-(-(b - a) // UNIT) for a, b in cuts(V, ranks, UNIT))
    for found, sent, calls in together(ranks, seen):
        assert found.best.tolist() == best.tolist()
        assert found.best.tolist()[-1] == 5
        assert found.drawn.tolist() == drawn.tolist()
        assert_close(found.entropy, entropy, 5e-6, "nats")
        (part,) = found.parts
        assert isinstance(part, OwnPart)
        assert_close(part.largest, top, 0, "largest")
        assert_close(part.mass / mass, mx.ones_like(mass), 1e-5, "mass")
        assert calls == {"records": 1, "outcome": 1}
        records = (ranks - 1) * F * longest * 5 * 4
        assert sent == {"records": records, "outcome": 2 * (ranks - 1) * F * 12 // ranks}


def test_where_macs_round_otherwise_rank_0s_argmax_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = logits_of(mx.float32)

    def seen(share: Share) -> Any:
        def unlike(*given: Any) -> records.Merged:
            found = merged(*given)
            return found._replace(best=found.best + share.rank)

        monkeypatch.setattr(records, "merged", unlike)
        return rows_of(share, logits).seen(UNIFORMS).best.tolist()

    assert together(2, seen) == [mx.argmax(logits.processed(), axis=-1).tolist()] * 2


def test_the_slice_of_a_draw_does_not_hang_on_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Macs of unlike systems: exponentials and logarithms that are a little off change no slice."""
    masses = np.random.default_rng(9).normal(0, 8, (4000, 40)).astype(np.float32)
    records = np.ones((*masses.shape, 5), np.float32)
    records[..., 0] = masses
    uniforms = np.random.default_rng(10).random(4000).astype(np.float32)
    found = merged(records.view(np.int32), uniforms).slices
    assert len(np.unique(found)) == 40
    exp, log = np.exp, np.log
    monkeypatch.setattr(np, "exp", lambda x: exp(x) * (1 + 1e-3))
    monkeypatch.setattr(np, "log", lambda x: log(x) * (1 + 1e-3))
    monkeypatch.setattr(np, "exp2", None)
    assert np.array_equal(merged(records.view(np.int32), uniforms).slices, found)


def test_many_draws_follow_the_distribution() -> None:
    """Ids of both ranks, and of a slice that is not whole."""
    raw = np.full(V, -20.0)
    chances = {3: 0.1, 20: 0.2, 79: 0.3, 80: 0.25, 130: 0.15}
    raw[list(chances)] = np.log(list(chances.values()))
    count = 4000
    logits = Logits(mx.array(np.tile(raw.astype(np.float32), (count, 1))), 30.0, 1.0)
    uniforms = mx.array(np.random.default_rng(5).random((count, 2)).astype(np.float32))

    def drawn(share: Share) -> list[int]:
        own = divided(share)
        mine = replace(logits, raw=own.columns(logits.raw))
        embedding = Embedding(DenseTable(mx.zeros((1, H))), V, H, mx.float32, own)
        rows = OwnRows.of([(mine, own_records(mine, own, False))], embedding)
        return rows.seen(uniforms).drawn.tolist()  # type: ignore[return-value]

    first, other = together(2, drawn)
    assert first == other
    shares = np.bincount(first, minlength=V) / count
    assert np.abs(shares[list(chances)] - list(chances.values())).max() < 0.03


def test_logits_that_are_no_numbers_show_in_the_entropy() -> None:
    logits = logits_of(mx.float32)
    raw = np.array(logits.raw)
    raw[3, 100] = np.nan
    raw[4] = np.nan
    logits = replace(logits, raw=mx.array(raw))
    for found in together(2, lambda share: rows_of(share, logits).seen(UNIFORMS)):
        entropy = np.array(found.entropy)
        assert np.isnan(entropy[[3, 4]]).all()
        assert np.isfinite(np.delete(entropy, [3, 4])).all()
        assert all(0 <= token < V for token in found.drawn.tolist())  # type: ignore[union-attr]


def test_slices_far_below_the_largest_weigh_nothing() -> None:
    records = np.zeros((1, 2, 5), np.int32)
    records[..., :4] = np.array([[[0, 1, 0, 1], [-300, 1, 0, 1]]], np.float32).view(np.int32)
    records[..., 4] = [[7, 20]]
    found = merged(records, np.array([0.999999], np.float32))
    assert (found.best[0], found.entropy[0], found.slices[0]) == (7, 0, 0)


def test_the_kernel_finds_the_same_of_own_slices() -> None:
    """The second rank's: a slice, and one of a single id."""
    own = Vocabulary(Share(1, 2), ((0, SLICE), (SLICE, 2 * SLICE + 1)), SLICE)
    raw = np.random.default_rng(7).normal(0, 8, (3, SLICE + 1)).astype(np.float32)
    logits = Logits(mx.array(raw).astype(mx.bfloat16), 30.0, 0.7)
    with simulated():
        found = np.array(own_records(logits, own, True))
    right = np.array(own_records(logits, own, False))
    assert np.array_equal(found[..., 4], right[..., 4])
    assert found[:, 1, 4].tolist() == [2 * SLICE] * 3
    floats = [each[..., :4].copy().view(np.float32) for each in (found, right)]
    assert np.allclose(*floats, rtol=1e-5, atol=1e-5)
