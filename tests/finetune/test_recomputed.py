"""What is computed again for its gradient: the same numbers, and few arrays at a time."""

import tracemalloc
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from gradients import assert_gradients, assert_near, random
from held import peak_of

from mlx_diffgemma import finetune
from mlx_diffgemma.finetune.recomputed import by_chunks, detached, recomputed
from mlx_diffgemma.model import elementwise, products
from mlx_diffgemma.model.elementwise import logsumexp
from mlx_diffgemma.model.products import multiply

ROWS, H, V = 7, 4, 9


def mass(table: mx.array, hidden: mx.array, *targets: mx.array) -> mx.array:
    """What a head computes of its rows: table [V, H], hidden [n, H] -> [n]."""
    logits = multiply(hidden, table.T)
    chosen = [mx.take_along_axis(logits, ids[:, None], axis=-1)[:, 0] for ids in targets]
    return logsumexp(logits) - sum(chosen, mx.zeros(()))


def plain_mass(table: np.ndarray, hidden: np.ndarray, *targets: np.ndarray) -> np.ndarray:
    logits = hidden @ table.T
    chosen = [logits[np.arange(len(ids)), ids] for ids in targets]
    return np.log(np.exp(logits).sum(axis=-1)) - sum(chosen)


@pytest.mark.parametrize("size", [1, 3, ROWS, 100])
def test_chunks_have_the_gradients_of_the_whole(size: int) -> None:
    table, hidden = random((V, H), 1), random((ROWS, H), 2)
    targets = np.arange(ROWS)
    assert_gradients(
        lambda table, hidden: by_chunks(mass, [table], hidden, [mx.array(targets)], size),
        lambda table, hidden: plain_mass(table, hidden, targets),
        [table, hidden],
    )
    assert_gradients(  # a frozen table: the rows are the only variable
        lambda hidden: by_chunks(lambda x: mass(mx.array(table), x), [], hidden, [], size),
        lambda hidden: plain_mass(table.astype(float), hidden),
        [hidden],
    )


def test_chunks_of_matrices() -> None:
    assert_gradients(
        lambda table, hidden: by_chunks(lambda t, x: multiply(x, t.T), [table], hidden, [], 2),
        lambda table, hidden: hidden @ table.T,
        [random((V, H), 1), random((ROWS, H), 2)],
    )


def test_no_chunk_is_larger_than_asked_for() -> None:
    seen: list[int] = []

    def noted(hidden: mx.array) -> mx.array:
        seen.append(hidden.shape[0])
        return hidden.sum(axis=-1)

    def loss(hidden: mx.array) -> mx.array:
        return by_chunks(noted, [], hidden, [], 3).sum()

    mx.eval(mx.grad(loss)(mx.array(random((ROWS, H), 2))))
    assert seen == [3, 3, 1, 3, 3, 1]  # forward, and once more for the gradient


@pytest.fixture(params=["at once", "later"])
def evaluated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation while MLX traces, as numpy does it, or all of it behind that, as a GPU does it."""
    if request.param == "later":
        for module in (finetune.recomputed, elementwise, products):
            monkeypatch.setattr(module, "on_gpu", lambda: True)


@pytest.mark.usefixtures("evaluated")
@pytest.mark.parametrize("trained", [True, False])
def test_memory_of_chunks(trained: bool) -> None:
    """256 rows of 4,096 logits are 4 MB; of chunks of 8 rows, 0.125 MB each, a few exist."""
    rows, wide, size = 256, 4096, 8
    table, hidden = mx.array(random((wide, H), 1)), mx.array(random((rows, H), 2))

    def peak(step: int) -> float:
        """The most bytes at once, of MLX and of numpy together at most, in arrays of a chunk."""

        def loss(table: mx.array, hidden: mx.array) -> mx.array:
            if trained:
                return by_chunks(mass, [table], hidden, [], step).sum()
            return by_chunks(lambda x: mass(table, x), [], hidden, [], step).sum()

        asked = (0, 1) if trained else (1,)
        tracemalloc.start()
        of_mlx = peak_of(lambda: mx.grad(loss, argnums=asked)(table, hidden))
        of_numpy = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return (of_mlx + of_numpy) / (4 * size * wide)

    assert peak(size) < 15
    assert peak(rows) > 30  # all at once: the measurement sees what it should


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_layer_is_computed_again(dtype: mx.Dtype) -> None:
    calls = 0

    def layer(w: mx.array, x: mx.array, kept: mx.array) -> tuple[mx.array, mx.array]:
        nonlocal calls
        calls += 1
        return mx.tanh(x @ w) * kept, (x * w[0]).sum()

    def loss(run: Callable[..., tuple[mx.array, ...]]) -> Callable[..., mx.array]:
        def total(w: mx.array, x: mx.array) -> mx.array:
            kept = mx.array([1, 0, 1, 1])
            first, second = run(w, x, kept)
            third, fourth = run(w, first, kept)
            return (third * first).sum() + second * fourth

        return total

    arrays = [mx.array(random((4, 4), 1)).astype(dtype), mx.array(random((3, 4), 2)).astype(dtype)]
    again = lambda w, x, kept: recomputed(layer, [w, x], [kept])  # noqa: E731
    want = mx.value_and_grad(loss(layer), argnums=(0, 1))(*arrays)
    mx.eval(want)
    assert calls == 2
    got = mx.value_and_grad(loss(again), argnums=(0, 1))(*arrays)
    mx.eval(got)
    assert calls == 2 + 4
    assert mx.array_equal(got[0], want[0])
    for a, b in zip(got[1], want[1], strict=True):
        assert a.dtype == dtype
        near = (
            1e-6 if dtype == mx.float32 else 2e-2
        )  # x has two uses, whose sums are in another order
        assert_near(a.astype(mx.float32), b.astype(mx.float32), near, "gradient")


def test_one_result_and_one_variable() -> None:
    def square(x: mx.array) -> tuple[mx.array]:
        return (x * x,)

    def loss(x: mx.array) -> mx.array:
        return recomputed(square, [x])[0].sum()

    assert mx.grad(loss)(mx.array([3.0, 4.0])).tolist() == [6.0, 8.0]


def test_results_keep_the_gradient_given() -> None:
    """Alone, a detached array is a constant: it stands inside of what has a gradient of its own."""
    x = mx.array([3.0])
    assert mx.grad(lambda x: (detached(x * x) * x).sum())(x).item() == 9.0
    assert detached(x.astype(mx.bfloat16)).dtype == mx.bfloat16


@pytest.mark.usefixtures("evaluated")
def test_memory_of_layers_computed_again() -> None:
    """Eight layers of ten arrays each: without checkpoints all 80 are kept."""
    eye = mx.eye(64)

    def layer(x: mx.array) -> tuple[mx.array]:
        for _ in range(10):
            x = mx.tanh(multiply(x, eye))
        return (x,)

    def peak(run: Callable[[mx.array], tuple[mx.array, ...]]) -> float:
        def loss(x: mx.array) -> mx.array:
            for _ in range(8):
                (x,) = run(x)
            return x.sum()

        x = mx.ones((64, 64))
        mx.eval(x)
        return peak_of(lambda: mx.grad(loss)(x)) / x.nbytes

    assert peak(lambda x: recomputed(layer, [x])) < 60
    assert peak(layer) > 80
