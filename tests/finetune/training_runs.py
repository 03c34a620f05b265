"""Runs that train three numbers in place of a network, and one of a small random network."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import mlx.core as mx
import numpy as np
from checkpoints import Sizes, write_checkpoint

from mlx_diffgemma.checkpoint.adapter import LoraParameters
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.finetune.chosen import ChosenAdapters
from mlx_diffgemma.finetune.data.batches import Batches
from mlx_diffgemma.finetune.data.examples import Example
from mlx_diffgemma.finetune.objective import Batch, Losses
from mlx_diffgemma.finetune.parameters import Trained, Values
from mlx_diffgemma.finetune.recipe import Recipe
from mlx_diffgemma.finetune.state import Keeper
from mlx_diffgemma.finetune.train import Training, train

SIZES = Sizes("sf", hidden_size=16, vocab_size=64, intermediate_size=16, moe_intermediate_size=8)
RECIPE = Recipe(steps=10, lr=0.1, save_every=3)
SCALAR = np.zeros((1, 1), np.float32)


class Targets:
    """Batches whose levels are numbers to be met: those of each step and part are others.

    given: levels of steps, from 0, in place of those.
    """

    def __init__(self, given: Mapping[int, float] | None = None) -> None:
        self.given = given or {}

    def batch(self, step: int, part: int = 0) -> Batch:
        level = self.given.get(step, np.random.default_rng([step, part]).normal())
        one = np.ones((1, 1), np.int32)
        rest = {"conditioned": np.zeros(1, bool), "starts": np.zeros(1, np.int32)}
        levels = np.full(3, level, np.float32)
        weights = {"next_weights": SCALAR + 1, "canvas_weights": SCALAR + 1}
        return Batch(ids=one, clean=one, noisy=one, levels=levels, **weights, **rest)


class Numbers:
    """A network that is its variables alone."""

    def at(self, *moment: int) -> "Numbers":
        return self


def distance(trained: Trained, values: Values, batch: Batch) -> Losses:
    """The distance of the variables from the batch's levels: three, and one of them alone."""
    target = mx.array(batch.levels)
    decoder = mx.square(values["b"] - target).mean()
    encoder = mx.square(values["a"] - target[0]).sum()
    return Losses(decoder + encoder, decoder, encoder)


def first_values() -> dict[str, mx.array]:
    return {"b": mx.array([1.0, 2.0, 3.0]), "a": mx.array([[0.5]])}


def run(
    out: Path | None = None,
    recipe: Recipe = RECIPE,
    *,
    batches: Any = None,
    keeper: Keeper | None = None,
    **more: Any,
) -> Training:
    """A run of three numbers in the folder `out`, or in none."""
    keeper = keeper or (Keeper(out, {"seed": 0}) if out else None)
    return train(
        cast(Trained, Numbers()),
        first_values(),
        batches or Targets(),
        recipe,
        objective=distance,
        keeper=keeper,
        **more,
    )


def losses(training: Training) -> list[float]:
    """Its steps' losses, to the last bit."""
    return [progress.loss for progress in training]


def same(a: Values, b: Values) -> bool:
    """Equal names and bits."""
    return list(a) == list(b) and all(bool(mx.array_equal(a[name], b[name])) for name in a)


@cache
def small() -> ChosenAdapters:
    """Adapters of rank 2 for a random network, the same in every test of a process."""
    folder = write_checkpoint(Path(mkdtemp()) / "small", SIZES)
    return ChosenAdapters(folder, read_config(folder), "small", LoraParameters(2, 2.0))


def run_small(out: Path, recipe: Recipe, **more: Any) -> Training:
    """A run of the small network's adapters on examples of a canvas behind a short prompt."""
    chosen, noise = small(), np.random.default_rng(0)
    trained, values = chosen.load(0)
    examples = [
        Example(noise.integers(2, 64, prompt + SIZES.canvas_length), prompt) for prompt in (4, 9, 6)
    ]
    batches = Batches(examples, 2, config=chosen.config, seed=3, multiple=8)
    keeper = Keeper(out, {"seed": 0}, chosen.write)
    return train(trained, values, batches, recipe, keeper=keeper, **more)
