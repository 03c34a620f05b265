"""The embedded checkpoint against the reference: the only trained weights that are at hand."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: tiny-sudoku was not compared")

from compare import assert_close
from injected import injected_noise
from oracle import Oracle
from tokenizers import Tokenizer

import mlx_diffgemma as dg
from mlx_diffgemma.assets import TASKS, embedded_folder

pytestmark = pytest.mark.reference

FOLDER = embedded_folder("tiny-sudoku")
LOGITS = 1e-4
PUZZLES = (0, 100, 199)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(FOLDER)


@pytest.fixture(scope="module")
def model() -> dg.Model:
    return dg.load_model(FOLDER, dtype=mx.float32)


def prompt(number: int) -> list[int]:
    """A puzzle as the ids of its turn, as tests/assets has them from the trainer."""
    puzzles = json.loads((Path(__file__).parents[1] / "assets/data/puzzles.json").read_text())
    text = TASKS["sudoku"]().prepare(puzzles[number]["puzzle"])
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    turn = f"<bos><|turn>user\n{text}<turn|>\n<|turn>model\n"
    return tokenizer.encode(turn, add_special_tokens=False).ids


@pytest.mark.parametrize("number", PUZZLES)
def test_logits(oracle: Oracle, model: dg.Model, number: int) -> None:
    """Of a random canvas, and of the same one with what it made the network believe."""
    tokens = prompt(number)
    canvas = injected_noise(number, 1, 1, oracle.canvas_length, oracle.vocab_size).starts[0]
    prefix, cache = model.encode(tokens), oracle.encode(tokens)
    processed, soft = None, None
    for what in ("first step", "self-conditioned"):
        want = oracle.logits(canvas, cache, processed)
        got = model.logits(model.decode(mx.array(canvas), prefix, soft=soft))[0]
        assert_close(got, want, LOGITS, f"tiny-sudoku's logits, {what}")
        processed = want / np.float32(0.8)
        soft = model.soft_embedding(mx.array(processed)[None])


@pytest.mark.parametrize("number", PUZZLES)
def test_generation(oracle: Oracle, model: dg.Model, number: int) -> None:
    """A whole answer with the checkpoint's own sampler settings, step by step."""
    tokens, sampler = prompt(number), model.config.sampler
    noise = injected_noise(
        number, 1, sampler.max_denoising_steps, oracle.canvas_length, oracle.vocab_size
    )
    trace = oracle.generate(
        tokens,
        noise,
        stop_ids=model.config.stop_ids,
        entropy_bound=sampler.entropy_bound,
        max_tokens=oracle.canvas_length,
    )
    *steps, committed = dg.denoise(model, tokens, dg.Settings(max_tokens=90), noise)
    for ours, theirs in zip(steps, trace.steps, strict=False):
        assert ours.tokens.tolist() == theirs.best.tolist(), f"step {theirs.step}"
        assert ours.accepted.tolist() == theirs.accepted.tolist(), f"step {theirs.step}"
    assert len(steps) == len(trace.steps)
    assert committed.tokens.tolist() == trace.tokens
