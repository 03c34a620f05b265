"""A network computed by numpy: the same numbers as MLX's operations give, in every pass."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint

import mlx_diffgemma as dg
from mlx_diffgemma.model.adapters import adapted
from mlx_diffgemma.model.host import FEW_ROWS, host_model
from mlx_diffgemma.model.matrices import Adapter
from mlx_diffgemma.model.text import Model

TOLERANCE = 1e-4  # of logits up to 30; sums in another order, of which the largest are float32's


def outputs(model: Model) -> list[np.ndarray]:
    """Logits and soft embeddings of all passes: many rows, few rows, one."""
    prefix = model.encode(list(range(20)))
    canvas = list(range(8, 16))
    logits = model.logits(model.decode(canvas, prefix))
    soft = model.soft_embedding(logits)
    again = model.logits(model.decode(canvas, prefix, soft))
    few = model.encode(list(range(FEW_ROWS)), prefix)
    steps = [model.step(token, few) for token in (5, 6)]
    return [np.array(each) for each in (logits, soft, again, *steps)]


def assert_same(model: Model) -> None:
    for expected, got in zip(outputs(model), outputs(host_model(model)), strict=True):
        assert np.abs(got - expected).max() < TOLERANCE, (
            f"at most {np.abs(got - expected).max()}, {np.abs(got - expected).mean()} on average"
        )


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = Sizes("ssf", intermediate_size=32, moe_intermediate_size=32, vocab_size=128)
    return write_checkpoint(tmp_path_factory.mktemp("dense"), sizes)


def test_numpy_computes_what_mlx_does(dense: Path) -> None:
    assert_same(dg.load_model(dense))


def test_packed_weights_are_unpacked_exactly(dense: Path, tmp_path: Path) -> None:
    four = Packing("affine", 4, 32)
    folder = quantise_folder(dense, tmp_path, four, published(four, Packing("affine", 8, 32)))
    assert_same(dg.load_model(folder))


def test_adapters_stay(dense: Path) -> None:
    model = dg.load_model(dense)
    at, draw = "model.decoder.layers.1", mx.random.key(0)
    keys = mx.random.split(draw, 4)
    adapters = {
        f"{at}.self_attn.q_proj": Adapter(_drawn(keys[0], 32, 4), _drawn(keys[1], 4, 32), 2.0),
        f"{at}.experts.down_proj": Adapter(
            _drawn(keys[2], 4, 32, 4), _drawn(keys[3], 4, 4, 32), 2.0
        ),
    }
    made = adapted(model, adapters)
    assert_same(made)
    assert np.abs(outputs(made)[0] - outputs(model)[0]).max() > 0.1


def test_a_network_in_16_bits_is_refused(dense: Path) -> None:
    with pytest.raises(RuntimeError, match="bfloat16"):
        host_model(dg.load_model(dense, mx.bfloat16))


def _drawn(key: mx.array, *shape: int) -> mx.array:
    return mx.random.normal(shape, key=key) * shape[-2] ** -0.5
