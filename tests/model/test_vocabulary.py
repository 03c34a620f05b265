"""An embedding whose rows are divided between ranks gives every rank what one process has."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from compare import assert_close
from replayed import together

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.tensors import Tensors
from mlx_diffgemma.machine.dtypes import mlx_dtype
from mlx_diffgemma.model import labels, vocabulary
from mlx_diffgemma.model.embedding import Embedding
from mlx_diffgemma.model.weights import build_embedding
from mlx_diffgemma.share.part import WHOLE, Part
from mlx_diffgemma.share.share import Share

V, H, UNIT = 131, 64, 16  # nine slices, the last one of three ids
SIZES = Sizes("f", vocab_size=V, hidden_size=H)
PACKED = Packing("affine", 4, 32)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "SLICE", UNIT)


@pytest.fixture(scope="module", params=["float32", "bfloat16", "packed"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("vocabulary")
    if request.param != "packed":
        return write_checkpoint(at / "dense", SIZES, dtype=request.param)
    dense = write_checkpoint(at / "dense", SIZES, dtype="bfloat16")
    return quantise_folder(dense, at / "packed", PACKED, published(PACKED))


def embedding_of(folder: Path, part: Part = WHOLE) -> Embedding:
    config = read_config(folder)
    return build_embedding(Tensors(folder, config, mlx_dtype(config.dtype)), part)


def tensor(share: Share) -> Part:
    return Part(share, "tensor")


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_ranks_have_what_one_process_has(folder: Path, ranks: int) -> None:
    """Lookups and logits to the bit; sums of products rounded by each rank to its dtype."""
    whole = embedding_of(folder)
    random = np.random.default_rng(1)
    ids = mx.array([[0, 15, 16, 64, 65, 130, 3]])
    hidden = mx.array(random.normal(size=(1, 5, H)).astype(np.float32)).astype(whole.dtype)
    logits = mx.array(random.normal(0, 3, (5, V)).astype(np.float32))
    weights = mx.exp(logits)
    total = weights.sum(axis=-1, keepdims=True)

    def of(embedding: Embedding) -> list[mx.array]:
        exact = [embedding.lookup(ids), embedding.head(hidden)]
        made = [*exact, embedding.soft(logits), embedding.mix(weights, total)]
        mx.eval(made)
        return made

    right = of(whole)
    for found in together(ranks, lambda share: of(embedding_of(folder, tensor(share)))):
        assert [each.dtype for each in found] == [each.dtype for each in right]
        assert mx.array_equal(found[0], right[0])
        rounding = 1e-5 if whole.dtype == mx.float32 else 2.0**-5  # numbers below 2, rounded thrice
        for one, other, close in zip(found[1:], right[1:], (1e-5, rounding, rounding), strict=True):
            assert_close(one.astype(mx.float32), other.astype(mx.float32), close, "found")


def test_a_rank_reads_its_own_rows_alone(folder: Path) -> None:
    whole = embedding_of(folder).table.stored
    first, last = (
        embedding_of(folder, tensor(Share(rank, 2))).table.stored.weight for rank in range(2)
    )
    assert (len(first), len(last)) == (80, 51)
    assert mx.array_equal(mx.concatenate([first, last]), whole.weight)


def test_the_parts_of_soft_embeddings_are_summed_once(folder: Path) -> None:
    whole = embedding_of(folder)
    logits = mx.array(np.random.default_rng(2).normal(0, 3, (4, V)).astype(np.float32))
    rounded = logits.astype(whole.dtype).astype(mx.float32)
    largest = logits.max(axis=-1, keepdims=True)
    mass = mx.exp(rounded - largest).sum(axis=-1, keepdims=True)

    def of(share: Share) -> tuple[mx.array, dict[str, int]]:
        embedding = embedding_of(folder, tensor(share))
        part = embedding.own_soft(embedding.own.columns(logits), largest, mass)
        return embedding.summed(part), dict(share.sent)

    close = 1e-5 if whole.dtype == mx.float32 else 2.0**-5
    for found, sent in together(3, of):
        assert_close(found.astype(mx.float32), whole.soft(logits).astype(mx.float32), close, "soft")
        assert sent == {"soft embeddings": 2 * 2 * 4 * H * whole.dtype.size // 3}


def test_fewer_slices_than_ranks_are_not_divided(folder: Path) -> None:
    own = vocabulary.vocabulary_of(tensor(Share(0, 10)), V)
    assert not own.divided
    assert own.own(V) == (0, V)
    assert own.sum(mx.ones(2), "x") is not None
    assert not own.share.sent


def test_nothing_is_gathered_from_a_part_of_the_table(folder: Path) -> None:
    embedding = embedding_of(folder, tensor(Share(0, 2)))
    assert not replace_size(embedding, 2**18).gathers
    with pytest.raises(RuntimeError, match="some of the embedding"):
        _ = embedding.gather_table


def replace_size(embedding: Embedding, vocab: int) -> Embedding:
    return Embedding(embedding.table, vocab, H, mx.bfloat16, embedding.own)


@pytest.mark.parametrize("ranks", [2, 3])
def test_labels_and_the_sum_over_all_ids_are_those_of_one_process(
    folder: Path, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank may hold none of the labels. Sums are taken of two slices, and of a part of one."""
    monkeypatch.setattr(labels, "SLICE", 50)
    hidden = mx.array(np.random.default_rng(4).normal(size=(5, H)).astype(np.float32))
    ids, config = mx.array([3, 1, 30]), read_config(folder)

    def of(embedding: Embedding) -> tuple[mx.array, mx.array]:
        model: Any = SimpleNamespace(embedding=embedding, config=config)
        return labels.label_logits(model, hidden, ids), labels.log_total(model, hidden)

    def of_share(share: Share) -> tuple[mx.array, mx.array, dict[str, int]]:
        return *of(embedding_of(folder, tensor(share))), dict(share.sent)

    logits, total = of(embedding_of(folder))
    for found, summed, sent in together(ranks, of_share):
        assert_close(found, logits, 1e-5, "logits")
        assert_close(summed, total, 1e-5, "log total")
        assert sent == {"labels": 2 * (ranks - 1) * 5 * 3 * 4 // ranks + (ranks - 1) * 5 * 4}
