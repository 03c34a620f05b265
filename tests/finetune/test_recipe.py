"""The learning rate of each step, and numbers that no run can have."""

from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.errors import SettingsError
from mlx_diffgemma.finetune.recipe import Recipe


def shares(**more: Any) -> list[float]:
    recipe = Recipe(**{"steps": 10, "warmup": 2} | more)
    return [round(recipe.share(step), 4) for step in range(1, recipe.steps + 1)]


def test_a_schedule_rises_to_its_height_and_falls_to_a_tenth() -> None:
    assert shares(schedule="constant") == [0.5, *[1.0] * 9]
    linear = [0.5, 1.0, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1]
    assert shares(schedule="linear") == linear
    cosine = shares()
    assert cosine[:2] == [0.5, 1.0]
    assert (cosine[5], cosine[-1]) == (0.55, 0.1)
    assert cosine[2:] == sorted(cosine[2:], reverse=True)


def test_it_may_fall_at_the_end_alone() -> None:
    assert shares(schedule="linear", falling=0.4) == [
        *(0.5, 1.0, 1.0, 1.0, 1.0, 1.0),
        *(0.775, 0.55, 0.325, 0.1),
    ]


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 1), (20, 1), (800, 40), (2000, 100)])
def test_a_twentieth_of_the_steps_is_the_warm_up(steps: int, warmup: int) -> None:
    recipe = Recipe(steps=steps)
    assert recipe.warmup_steps == warmup
    assert 0 < recipe.share(1) <= 1


def test_one_step_has_the_whole_rate_without_a_schedule() -> None:
    assert Recipe(steps=1, schedule="constant").share(1) == 1
    assert Recipe(steps=5, warmup=0).share(1) > 0.9
    assert Recipe(steps=5, warmup=5).share(5) == 1


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"steps": 0}, "steps is 0 ... 1 or more"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"lr": 0.0}, "lr is 0.0 ... above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"warmup": 11, "steps": 10}, "warmup is 11 ... 0 to 10"),
        ({"clip": -1.0}, "clip is -1.0 ... 0 or more"),
        ({"average": 1.0}, "average is 1.0 ... below 1"),
        ({"falling": 0.0}, "falling is 0.0"),
        ({"seed": -1}, "seed is -1"),
        ({"schedule": "square"}, "schedule is square ... cosine, linear, constant"),
        ({"optimizer": "sgd"}, "optimizer is sgd ... adamw, adafactor, muon"),
        ({"valid_every": 0}, "valid_every is 0 ... 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], facts: str) -> None:
    with raises(SettingsError, facts):
        Recipe(**wrong)
