"""Memory of a denoising step on MLX's operations, which make float32 copies of a chunk's logits."""

from pathlib import Path
from string import ascii_lowercase

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, random_tensors, write_checkpoint
from forms import END, form_of
from held import peak_of

import mlx_diffgemma as dg
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.diffusion import soft, step

VOCAB, ROWS = 20_000, 4


def test_a_chunks_logits_are_gone_before_the_next_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a generator kept its last chunk while the next was computed: 7 arrays in place of 4."""
    monkeypatch.setattr(step, "CPU_CHUNK_LOGITS", ROWS * VOCAB)
    sizes = Sizes("f", vocab_size=VOCAB, hidden_size=32, canvas_length=6 * ROWS)
    folder = write_checkpoint(tmp_path / "model", sizes, tensors=random_tensors(sizes))
    model, settings = dg.load_model(folder), dg.Settings(max_tokens=24, max_denoising_steps=2)
    list(dg.denoise(model, [1, 2], settings))
    peak = peak_of(lambda: list(dg.denoise(model, [1, 2], settings)))
    chunk = ROWS * VOCAB * mx.float32.size
    assert peak / chunk < 5.5


RANDOM = np.random.default_rng(0)
WORDS = "|".join("".join(RANDOM.choice(list(ascii_lowercase), 4)) for _ in range(300))


@pytest.mark.parametrize("pattern", ["[0-9a-z]*", WORDS], ids=["few classes", "many classes"])
def test_a_form_keeps_the_raw_logits_and_a_few_copies_of_a_chunk(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows' raw logits wait for the bias; what is read of them is a chunk at a time.

    Bug: with many classes, each padded to blocks of 128 ids, a chunk had as many rows as with few:
    33 arrays in place of 16.
    """
    monkeypatch.setattr(step, "CPU_CHUNK_LOGITS", ROWS * VOCAB)
    monkeypatch.setattr(soft, "PRODUCT_ROWS", ROWS)
    sizes = Sizes("f", vocab_size=VOCAB, hidden_size=32, canvas_length=6 * ROWS, eos_token_id=END)
    folder = write_checkpoint(tmp_path / "model", sizes, tensors=random_tensors(sizes))
    model, settings = dg.load_model(folder), dg.Settings(max_tokens=24, max_denoising_steps=2)
    form = form_of(VOCAB, pattern)
    list(dg.denoise(model, [1, 2], settings, constraint=Constraint(form, 24)))
    peak = peak_of(
        lambda: list(dg.denoise(model, [1, 2], settings, constraint=Constraint(form, 24)))
    )
    chunk = ROWS * VOCAB * mx.float32.size
    assert peak / chunk < 18
