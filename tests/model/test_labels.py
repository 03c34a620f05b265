"""The head of a few tokens: columns of the whole head, from no more than their rows."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.model.labels import label_logits, log_total
from mlx_diffgemma.model.tables import SLICE

SIZES = Sizes("f", vocab_size=SLICE + 40, sharpness=30.0)
LABELS = [0, 5, 77, SLICE - 1, SLICE, SLICE + 39]
PACKINGS = [None, Packing("affine", 4, 32), Packing("affine", 8, 32), Packing("mxfp4", 4, 32)]


@pytest.fixture(scope="module", params=PACKINGS, ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    tmp = tmp_path_factory.mktemp("labels")
    folder = write_checkpoint(tmp / "dense", SIZES)
    if (packing := request.param) is not None:
        folder = quantise_folder(folder, tmp / "packed", packing, published(packing, packing))
    return dg.load_model(folder, mx.float32)


@pytest.fixture
def hidden(model: dg.Model) -> mx.array:
    prefix = model.encode([1, 2, 3])
    return model.decode(list(range(6)), prefix)[0]


def test_they_are_columns_of_the_whole_head(model: dg.Model, hidden: mx.array) -> None:
    """Capped: some logits are near the cap of 30."""
    whole = np.array(model.logits(hidden))
    assert np.abs(whole).max() > 15
    assert_close(label_logits(model, hidden, mx.array(LABELS)), whole[:, LABELS], 1e-4, "logits")


def test_the_sum_is_that_of_the_whole_head(model: dg.Model, hidden: mx.array) -> None:
    """Over two slices, the second of which is short."""
    whole = np.array(model.logits(hidden), np.float64)
    assert_close(log_total(model, hidden), np.logaddexp.reduce(whole, axis=1), 1e-4, "log total")


def test_no_other_rows_are_read(
    model: dg.Model, hidden: mx.array, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, read = type(model.embedding.table), list[int]()
    rows = table.rows

    def counted(self: Any, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        read.append(ids.size)
        return rows(self, ids, dtype)

    monkeypatch.setattr(table, "rows", counted)
    monkeypatch.setattr(table, "head", None)
    mx.eval(label_logits(model, hidden, mx.array(LABELS)))
    assert read == [len(LABELS)]


def test_products_are_float32_where_the_model_is_not(tmp_path: Path) -> None:
    """The whole head rounds its product to bfloat16 first: this one is closer to float64."""
    model = dg.load_model(write_checkpoint(tmp_path, SIZES), mx.bfloat16)
    hidden = model.decode(list(range(6)), model.encode([1, 2, 3]))[0]
    weight = np.array(model.embedding.table.rows(mx.array(LABELS), mx.float32), np.float64)
    exact = np.array(hidden.astype(mx.float32), np.float64) @ weight.T
    exact = 30 * np.tanh(exact / 30)
    assert_close(label_logits(model, hidden, mx.array(LABELS)), exact, 1e-4, "logits")
    assert np.abs(np.array(model.logits(hidden))[:, LABELS] - exact).max() > 1e-3
