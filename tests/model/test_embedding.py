"""Lookups among some ids."""

import mlx.core as mx
import numpy as np

from mlx_diffgemma.model import embedding
from mlx_diffgemma.model.tables import DenseTable


def test_the_nearest_of_some_ids_and_how_far_it_is() -> None:
    """An embedding moved by 40% of the way to the nearest other one is 0.8 of the half way off."""
    weight = mx.array(np.random.default_rng(3).normal(0, 1, (97, 64)).astype(np.float32))
    table = embedding.Embedding(DenseTable(weight), 97, 64, mx.float32)
    ids = [3, 50, 51, 96]
    rows = np.array(table.lookup(mx.array(ids)))
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1) + 1e9 * np.eye(4)
    one, other = (int(i) for i in np.unravel_index(apart.argmin(), apart.shape))
    moved = rows[one] + 0.4 * (rows[other] - rows[one])
    found, away = table.nearest(mx.array(np.stack([*rows, moved])), ids)
    assert found == [*ids, ids[one]]
    assert np.allclose(away, [0, 0, 0, 0, 0.8], atol=1e-5)
