"""A step's second phase against a plain loop, and an answer's form kept whatever the network wants."""

import re
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from fake_model import CertainModel, FakeModel, tiny_config, wanting
from forms import END, PAD, held_to, text_of
from plain import assert_same, lively_model, plain, plain_loop

from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings

PROMPT = [3, 1, 4, 1, 5]
FORMS = ["[0-9]+", "[a-m]{4,15}", "(é|[0-9]{2}x?)+", "yes|no|perhapsé", "[0-9a-zé]*"]


def answer(frames: list[Frame]) -> list[int]:
    return [token for frame in frames if frame.committed for token in frame.tokens.tolist()]


@pytest.mark.parametrize("pattern", FORMS)
@pytest.mark.parametrize("sampler", [(1, 0, 0.5), (6, 1, 0.5), (5, 2, 0.005)])
def test_the_loop_is_the_plain_loop_under_a_form(pattern: str, sampler: tuple[Any, ...]) -> None:
    steps, stability, nats = sampler
    settings = Settings(
        max_tokens=20,
        entropy_bound=2.0,
        max_denoising_steps=steps,
        stability_threshold=stability,
        confidence_threshold=nats,
    )
    model, noise = lively_model(stop_ids=[END]), CounterNoise(len(pattern) + steps)
    frames = list(denoise(model, PROMPT, settings, noise, constraint=held_to(pattern, 20)))
    expected = list(
        plain_loop(plain(model), PROMPT, settings, noise, constraint=held_to(pattern, 20))
    )
    assert_same(frames, expected)
    assert re.fullmatch(pattern, text_of(answer(frames)))
    assert frames[-1].finish_reason == "stop"
