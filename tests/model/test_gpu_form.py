"""What a GPU is given, run on the CPU: rows sorted by expert, layouts and compiled ends."""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from adapting import random_values
from checkpoints import Sizes, write_checkpoint
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.model import scores
from mlx_diffgemma.model.adapters import applied

pytestmark = pytest.mark.skipif(
    mx.default_device() == mx.gpu, reason="a GPU runs this form anyway: nothing to compare here"
)


@pytest.mark.slow  # MLX calls the C++ compiler, a second a kernel; runs plainly without one
@pytest.mark.parametrize(
    ("most_scores", "targets"),
    [(2**26, []), (500, []), (2**26, ["all"])],
    ids=["one call", "blocks", "adapters"],
)
def test_the_form_for_a_gpu_gives_the_same_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_scores: int, targets: list[str]
) -> None:
    """Blocks of attention are evaluated: nothing around them may be traced."""
    sizes = Sizes("ssf", num_experts=6, top_k_experts=3, canvas_length=24)
    folder = write_checkpoint(tmp_path, sizes)
    values = random_values(folder, targets) if targets else {}
    random = np.random.default_rng(1)
    prompt = random.integers(0, sizes.vocab_size, 30).tolist()
    canvas = mx.array(random.integers(0, sizes.vocab_size, 24))

    def logits() -> mx.array:
        model = applied(dg.load_model(folder, dtype=mx.float32), values, 0.5)
        prefix = model.encode(prompt)
        first = model.logits(model.decode(canvas, prefix))
        soft = model.soft_embedding(first / 0.7)
        both = model.decode_many([canvas, canvas[::-1]], prefix, mx.concatenate([soft, soft]))
        return mx.concatenate(
            [model.logits(model.decode(canvas, prefix, soft)), model.logits(both)]
        )

    plain = logits()
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_diffgemma.") and hasattr(module, "on_gpu"):
            monkeypatch.setattr(module, "on_gpu", lambda: True)
    monkeypatch.setattr(scores, "MOST_SCORES", most_scores)
    assert_close(logits(), plain, 5e-5, "logits in the form for a GPU")  # as against the reference
