"""Optimisers against their definitions, written out in numpy."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from numpy.typing import NDArray

from mlx_diffgemma.finetune import optimizer
from mlx_diffgemma.finetune.optimizer import Optimizer, averaged, clipped, orthogonal
from mlx_diffgemma.finetune.recipe import Recipe

Arrays = dict[str, mx.array]


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def stepped(recipe: Recipe, values: Arrays, steps: int) -> tuple[Arrays, Arrays]:
    """Values and moments after some steps, whose gradients are the numbers of their step."""
    optimise = Optimizer(recipe)
    moments = optimise.begin(values)
    for step in range(1, steps + 1):
        gradients = {n: mx.array(random(*v.shape, seed=step)) for n, v in values.items()}
        values, moments = optimise(values, gradients, moments, step)
    return values, moments


def test_adamw_is_the_published_one() -> None:
    """Decoupled decay and both corrections: torch.optim.AdamW with Google's betas."""
    recipe = Recipe(steps=9, lr=0.01, warmup=0, schedule="constant", weight_decay=0.1)
    start = random(3, 4)
    value, m, v = start.astype(np.float64), np.zeros((3, 4)), np.zeros((3, 4))
    for step in range(1, 6):
        g = random(3, 4, seed=step).astype(np.float64)
        m, v = 0.95 * m + 0.05 * g, 0.99 * v + 0.01 * g * g
        value = value * (1 - 0.01 * 0.1)
        value -= 0.01 * (m / (1 - 0.95**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
    found, _ = stepped(recipe, {"x": mx.array(start)}, 5)
    assert_close(found["x"], value, 1e-6, "values")


def test_the_rate_follows_the_schedule() -> None:
    recipe = Recipe(steps=10, lr=0.1, warmup=5, schedule="constant", weight_decay=0.0)
    values = {"x": mx.zeros((2,))}
    first, _ = stepped(recipe, values, 1)
    assert_close(mx.abs(first["x"]), np.full(2, 0.02), 1e-6, "values")


def test_muon_takes_matrices_and_leaves_the_rest() -> None:
    recipe = Recipe(steps=9, optimizer="muon", warmup=0, schedule="constant", weight_decay=0.0)
    shapes = {
        "layers.0.mlp.up_proj.weight": (6, 4),
        "embed_tokens.weight": (6, 4),
        "layers.0.router.proj.weight": (2, 4),
        "layers.0.norm.weight": (4,),
    }
    values = {name: mx.array(random(*shape)) for name, shape in shapes.items()}
    _, moments = stepped(recipe, values, 1)
    kinds = {n: {k.rpartition("/")[2] for k in moments if k.startswith(n)} for n in values}
    assert kinds == {n: {"v"} if "up_proj" in n else {"m", "v"} for n in values}


def test_muon_moves_by_an_orthogonal_matrix() -> None:
    """Two steps: momentum averaged and looked ahead, (6 / 4) ** 0.5 for a tall matrix, decay."""
    recipe = Recipe(
        steps=9, optimizer="muon", warmup=0, schedule="constant", weight_decay=0.1, momentum=0.9
    )
    start = random(6, 4)
    value, v = start, np.zeros((6, 4), np.float32)
    for step in (1, 2):
        g = random(6, 4, seed=step)
        v = 0.9 * v + 0.1 * g
        moved = np.asarray(orthogonal(mx.array(0.9 * v + 0.1 * g)))
        value = value * (1 - 0.02 * 0.1) - 0.02 * 1.5**0.5 * moved
    found, _ = stepped(recipe, {"x": mx.array(start)}, 2)
    assert_close(found["x"], value, 1e-6, "values")


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (3, 8, 5)])
def test_singular_values_become_about_one_matrix_by_matrix(shape: tuple[int, ...]) -> None:
    """MLX's own Muon makes one matrix of a stack of experts."""
    stack = random(*shape)
    moved = np.asarray(orthogonal(mx.array(stack)))
    values = np.linalg.svd(moved, compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3
    for one, alone in zip(*(x.reshape(-1, *shape[-2:]) for x in (stack, moved)), strict=True):
        assert_close(orthogonal(mx.array(one)), alone, 1e-6, "values")


def test_numpy_and_operations_agree() -> None:
    x = mx.array(random(2, 7, 5))
    assert_close(optimizer._newton_schulz_ops(x), np.asarray(orthogonal(x)), 1e-5, "values")


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_each_of_them_descends(name: Any) -> None:
    recipe = Recipe(steps=60, lr=0.1, optimizer=name, matrix_lr=0.1)
    optimise = Optimizer(recipe)
    values = {"x": mx.array(random(4, 3)), "y": mx.array(random(5))}
    first = sum(float(mx.square(v).sum()) for v in values.values())
    moments = optimise.begin(values)
    for step in range(1, 61):
        values, moments = optimise(values, {n: 2 * v for n, v in values.items()}, moments, step)
        mx.eval(values, moments)
    assert sum(float(mx.square(v).sum()) for v in values.values()) < first / 10


def test_nothing_is_changed_in_place() -> None:
    values = {"x": mx.array(random(4, 3))}
    optimise = Optimizer(Recipe(steps=5, optimizer="muon"))
    moments = optimise.begin(values)
    optimise(values, {"x": mx.ones((4, 3))}, moments, 1)
    assert_close(values["x"], random(4, 3), 0, "values")
    assert_close(moments["x/v"], np.zeros((4, 3)), 0, "values")


def test_gradients_are_clipped_by_their_common_norm() -> None:
    gradients = {"x": mx.array([3.0, 0.0]), "y": mx.array([[4.0]])}
    found, norm = clipped(gradients, 1.0)
    assert float(norm) == 5
    assert_close(found["x"], np.array([0.6, 0]), 1e-6, "values")
    assert_close(found["y"], np.array([[0.8]]), 1e-6, "values")
    for most in (0, 10.0):
        unclipped, norm = clipped(gradients, most)
        assert (float(norm), unclipped["x"].tolist()) == (5, [3, 0])


def test_the_average_forgets_its_first_steps() -> None:
    recipe = Recipe(steps=9, average=0.5)
    found = averaged({"x": mx.array([0.0])}, {"x": mx.array([1.0])}, recipe, 1)
    assert_close(found["x"], np.array([1 / 1.3]), 1e-6, "values")
    found = averaged({"x": mx.array([0.0])}, {"x": mx.array([1.0])}, recipe, 9)
    assert_close(found["x"], np.array([0.5]), 1e-6, "values")
