"""16-bit runs against the reference: no further from its float32 run than it is itself.

Both round at other places of a matrix product, so they differ from each other as much as from
float32. What is held is the distance from the float32 run on the very same stored weights.
"""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: no 16-bit run was compared")

import torch
from checkpoints import DTYPES, Sizes, uniform, write_checkpoint
from compare import assert_close
from oracle import Oracle

import mlx_diffgemma as dg

pytestmark = pytest.mark.reference

RATIO = 1.5  # our RMS distance from float32 over the reference's own
# Every expert of every token: rounding cannot choose others, which would drown all else.
SIZES = [
    Sizes(
        hidden_size=64,
        vocab_size=300,
        intermediate_size=96,
        moe_intermediate_size=32,
        top_k_experts=4,
        seed=seed,
    )
    for seed in range(6)
]


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("conditioned", [False, True])
def test_distance_from_float32(tmp_path: Path, dtype: str, conditioned: bool) -> None:
    ours, theirs = [], []
    for sizes in SIZES:
        folder = write_checkpoint(tmp_path / str(sizes.seed), sizes, dtype=dtype)
        prompt, canvas = (
            np.floor((uniform((n,), n) + 1) / 2 * sizes.vocab_size).astype(int)
            for n in (30, sizes.canvas_length)
        )
        oracles = [Oracle(folder, torch_dtype) for torch_dtype in (torch.float32, dtype_of(dtype))]
        soft = None
        if conditioned:
            first = oracles[0].logits(canvas, oracles[0].encode(prompt))
            soft = first / np.float32(0.6)
        exact, rounded = (o.logits(canvas, o.encode(prompt), soft) for o in oracles)
        model = dg.load_model(folder)
        assert model.dtype == DTYPES[dtype]
        prefix = model.encode(prompt.tolist())
        given = None if soft is None else model.soft_embedding(mx.array(soft)[None])
        got = np.array(model.logits(model.decode(mx.array(canvas), prefix, soft=given)))[0]
        ours.append(rms(got, exact))
        theirs.append(rms(rounded, exact))
    ratio = np.linalg.norm(ours) / np.linalg.norm(theirs)
    what = f"{dtype}{', self-conditioned' if conditioned else ''}: RMS over the reference's own"
    assert_close(ratio, 0.0, RATIO, what)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_soft_embedding_rounds_as_the_reference(tmp_path: Path, dtype: str) -> None:
    """Probabilities are rounded before the product and sqrt(H) before the scale: to 1 ulp or so."""
    sizes = SIZES[0]
    folder = write_checkpoint(tmp_path, sizes, dtype=dtype)
    model, oracle = dg.load_model(folder), Oracle(folder, dtype_of(dtype))
    logits = 12 * uniform((sizes.canvas_length, sizes.vocab_size), 5)
    embedding = oracle.model.model.decoder.embed_tokens
    rounded = torch.tensor(logits).to(oracle.dtype)
    weights = rounded.softmax(dim=-1, dtype=torch.float32).to(oracle.dtype)
    expected = torch.matmul(weights, embedding.weight) * embedding.embed_scale.to(oracle.dtype)
    got = np.array(model.soft_embedding(mx.array(logits)[None])[0].astype(mx.float32))
    want = expected.detach().float().numpy()
    ulp = 2.0 ** (-7 if dtype == "bfloat16" else -10) * np.abs(want).max()
    assert_close(got / ulp, want / ulp, 1.0, f"{dtype}: soft embedding, in ulp of the largest")


def dtype_of(name: str) -> torch.dtype:
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}[name]
