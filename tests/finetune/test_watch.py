"""A rising loss is told from noise."""

from itertools import pairwise

import numpy as np
from facts import assert_says

from mlx_diffgemma.finetune.watch import RECENT, WINDOW, Watch


def test_a_rise_is_said_once_a_window() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 400)
    watch = Watch()
    levels = [1.0 if step < 100 else 2.0 + step / 100 for step in range(400)]
    said = [watch(step, levels[step] + noise[step]) for step in range(400)]
    steps = [step for step, line in enumerate(said) if line]
    assert 100 <= steps[0] < 100 + RECENT
    assert all(b - a >= WINDOW for a, b in pairwise(steps))
    assert_says(said[steps[0]], f"{RECENT} steps ... {WINDOW} before")


def test_noise_and_one_bad_step_are_no_rise() -> None:
    noise = np.random.default_rng(1).normal(2.0, 0.5, 2000)
    noise[500] = 8.0
    watch = Watch()
    assert not any(watch(step, loss) for step, loss in enumerate(noise))


def test_a_falling_loss_is_none() -> None:
    watch = Watch()
    assert not any(watch(step, 5 - step / 100) for step in range(300))
