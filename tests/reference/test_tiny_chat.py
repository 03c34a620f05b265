"""tiny-chat's packed weights against the reference, with the numbers that they stand for."""

import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: tiny-chat was not compared")

from compare import assert_close
from injected import injected_noise
from oracle import Oracle

import mlx_diffgemma as dg

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from measure_tiny_chat import unpacked
from tiny_chat.skills import held_out

pytestmark = pytest.mark.reference

LOGITS = 1e-4  # 2.5e-5 of the float16 folder, by its trainer
PROMPTS = ("tool answer", "follow-up")  # the first is longer than the window


@pytest.fixture(scope="module")
def session() -> dg.Session:
    return dg.load("tiny-chat")


@pytest.fixture(scope="module")
def oracle(session: dg.Session) -> Iterator[Oracle]:
    with unpacked(Path(session.info.path)) as folder:
        yield Oracle(folder)


def prompt(session: dg.Session, skill: str) -> list[int]:
    (example,) = held_out(skill, 1)
    return session.tokenizer.encode(example.prompt(session.tokenizer))


@pytest.mark.parametrize("skill", PROMPTS)
def test_a_canvas(session: dg.Session, oracle: Oracle, skill: str) -> None:
    """Random, and the same one with what it made the network believe."""
    model, tokens = session.model, prompt(session, skill)
    canvas = injected_noise(1, 1, 1, oracle.canvas_length, oracle.vocab_size).starts[0]
    prefix, cache = model.encode(tokens), oracle.encode(tokens)
    processed, soft = None, None
    for what in ("first step", "self-conditioned"):
        want = oracle.logits(canvas, cache, processed)
        got = model.logits(model.decode(mx.array(canvas), prefix, soft=soft))[0]
        assert_close(got, want, LOGITS, f"tiny-chat's logits, {what}")
        processed = want / np.float32(0.8)
        soft = model.soft_embedding(mx.array(processed)[None])


@pytest.mark.parametrize("skill", PROMPTS)
def test_the_next_token(session: dg.Session, oracle: Oracle, skill: str) -> None:
    model, tokens = session.model, prompt(session, skill)
    prefix = model.encode(tokens[:-1])
    got = model.step(mx.array(tokens[-1:]), prefix)[0]
    assert_close(got, oracle.next_logits(tokens)[-1], LOGITS, "tiny-chat's next token")
