"""Kernels that others wrote, and that are known to run on Macs, run unchanged: those of mlx-lm."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from metal_sim import simulated


def fresh(name: str) -> Any:
    """A module of mlx-lm that has not been imported before: its kernels are built at import."""
    if not importlib.util.find_spec(f"mlx_lm.kernels.{name}"):
        pytest.skip(f"mlx-lm has no kernels.{name}: it was not compared with its operations")
    sys.modules.pop(f"mlx_lm.kernels.{name}", None)
    return importlib.import_module(f"mlx_lm.kernels.{name}")


@pytest.fixture(autouse=True)
def _modules() -> Any:
    """Kernels imported here are forgotten again, and nothing else is.

    mlx-lm imports huggingface_hub: were it forgotten too, later tests would meet two copies.
    """
    yield
    for name in [name for name in sys.modules if name.startswith("mlx_lm.kernels.")]:
        del sys.modules[name]


def randoms(seed: int) -> Callable[..., mx.array]:
    """Normally distributed arrays of the shapes given, from one seed."""
    rng = np.random.default_rng(seed)
    return lambda *shape: mx.array(rng.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_expert_routing(order: Any) -> None:
    normal = randoms(1)
    logits, bias = normal(9, 40), normal(40) / 10
    with simulated(order=order):
        experts, weights = fresh("expert_routing").expert_routing(
            logits, bias, top_k=6, multiplier=1.5, score_eps=1e-6, route_scale=2.0
        )
    scores = mx.sigmoid(logits * 1.5)
    want = mx.argsort(-(scores + bias), axis=-1)[:, :6]
    chosen = mx.take_along_axis(scores, want, axis=-1)
    np.testing.assert_array_equal(np.array(experts), np.array(want))
    chosen = chosen / (chosen.sum(-1, keepdims=True) + 1e-6) * 2
    np.testing.assert_allclose(np.array(weights), np.array(chosen), rtol=1e-5)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_post_expert_norm_combine(dtype: mx.Dtype) -> None:
    normal = randoms(2)
    experts, weights = normal(5, 4, 768).astype(dtype), mx.abs(normal(5, 4))
    norm = (1 + normal(768) / 10).astype(dtype)
    with simulated():
        out = fresh("post_expert_norm_combine").post_expert_norm_combine(
            experts, weights, norm_weight=norm, eps=1e-6
        )
    scaled = experts.astype(mx.float32) * norm.astype(mx.float32)
    normed = scaled * mx.rsqrt(mx.square(scaled).mean(-1, keepdims=True) + 1e-6)
    want = (normed * weights[..., None]).sum(-2)
    # The kernel rounds each weight and, four times, its running sum of up to 16 to the dtype:
    # half an ulp of 16 each.
    tolerance = {mx.float32: 1e-5, mx.float16: 5 * 2**-8, mx.bfloat16: 5 * 2**-5}[dtype]
    np.testing.assert_allclose(
        np.array(out.astype(mx.float32)), np.array(want), rtol=0, atol=tolerance
    )
