"""No path of the network on the CPU has a gradient that is silently 0.

What numpy computes MLX cannot differentiate: an array handed to numpy is a constant from there on.
So each such place in the rooms that hold arrays of MLX stands in a table here, with the test of its
gradient, or with the reason for which there is nothing to differentiate.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, write_checkpoint
from gradients import assert_gradients, assert_near, random

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.diffusion.sampler import commit
from mlx_diffgemma.machine.device import in_numpy, kept_op, numpy_op
from mlx_diffgemma.model.embedding import Embedding
from mlx_diffgemma.model.matrices import DenseMatrix, PackedMatrix
from mlx_diffgemma.model.soft_gather import total_mass
from mlx_diffgemma.model.tables import DenseTable, PackedTable

ROOT = Path(__file__).parents[2]
ROOMS = ("autoregressive", "diffusion", "finetune", "generation", "kernels", "machine", "model")
TO_NUMPY = {"numpy_op", "kept_op", "in_numpy", "in_host", "np.asarray", "np.array"}

FIXED = "weights, measured or unpacked once and frozen by their name"
INDICES = "positions, masks and experts, which are whole numbers"
RESULT = "what generation shows or decides, of which nothing is a function"
CHECK = "a check of kernels"
DETACHED = "taken out of its graph on purpose: the gradient computes it again"
REFUSED = "test_what_has_no_gradient_refuses_it"
PLACES: dict[tuple[str, str, str], str] = {
    ("machine/device.py", "in_host", "np.asarray"): "test_a_function_of_numpy",
    ("machine/device.py", "numpy_op", "in_host"): "test_a_function_of_numpy",
    ("machine/device.py", "in_numpy", "numpy_op"): REFUSED,
    ("model/products.py", "multiply_by", "numpy_op"): "test_a_product",
    ("model/products.py", "multiply_by", "np.asarray"): FIXED,
    ("model/products.py", "gather_by", "numpy_op"): "test_rows_times_the_matrix_of_their_expert",
    ("model/products.py", "gather_by", "np.asarray"): FIXED,
    ("model/products.py", "gather", "numpy_op"): "test_rows_times_the_matrix_of_their_expert",
    ("model/products.py", "_multiply", "numpy_op"): "test_a_product",
    ("model/products.py", "_bounds", "in_host"): INDICES,
    ("machine/device.py", "kept_op", "in_host"): "test_a_function_that_keeps",
    ("model/host_ops.py", "rms_norm", "kept_op"): "test_a_norm",
    ("model/host_ops.py", "rms_norms", "kept_op"): "test_norms_of_one_input",
    ("model/host_attention.py", "heads", "kept_op"): "test_heads",
    ("model/host_attention.py", "heads", "np.asarray"): INDICES,
    ("model/host_attention.py", "_turn_table", "np.asarray"): FIXED,
    ("model/host_attention.py", "masked", "kept_op"): "test_attention",
    ("model/host_attention.py", "behind", "kept_op"): "test_canvases_behind_prefixes",
    ("model/host_attention.py", "Prefixes", "np.asarray"): INDICES,
    ("model/host_attention.py", "_added", "np.asarray"): INDICES,
    ("model/host_ops.py", "geglu", "kept_op"): "test_gate_and_up_side_by_side",
    ("model/host_ops.py", "route", "kept_op"): "test_weights_of_experts",
    ("model/host_ops.py", "route", "np.asarray"): INDICES,
    ("model/host_ops.py", "mix", "kept_op"): "test_a_mixture_of_experts",
    ("model/host_ops.py", "mix", "np.asarray"): FIXED,
    ("model/host_ops.py", "rows", "kept_op"): "test_rows_of_a_table",
    ("model/host_ops.py", "rows", "np.asarray"): INDICES,
    ("model/host_ops.py", "adapted", "kept_op"): "test_a_product_with_adapters",
    ("model/host_ops.py", "adapted", "np.asarray"): FIXED,
    ("model/elementwise.py", "_exp", "numpy_op"): "test_exp_and_tanh",
    ("model/elementwise.py", "_tanh", "numpy_op"): "test_exp_and_tanh",
    ("model/embedding.py", "Embedding", "np.array"): FIXED,
    ("model/soft_gather.py", "total_mass", "in_numpy"): REFUSED,
    ("model/soft_gather.py", "measured", "np.array"): FIXED,
    ("model/soft_gather.py", "gather", "in_host"): RESULT,
    ("diffusion/sampler.py", "commit", "in_numpy"): REFUSED,
    ("diffusion/sampler.py", "commit_on_host", "in_host"): RESULT,
    ("diffusion/sampler.py", "commit_on_host", "np.array"): RESULT,
    ("model/elementwise.py", "_logsumexp", "numpy_op"): "test_logsumexp",
    ("finetune/optimizer.py", "orthogonal", "in_numpy"): REFUSED,
    ("finetune/recomputed.py", "detached", "np.asarray"): DETACHED,
    ("autoregressive/sampling.py", "Sampled", "in_host"): RESULT,
    ("diffusion/classes.py", "class_sums", "in_host"): RESULT,
    ("diffusion/classes.py", "row_sums", "in_numpy"): REFUSED,
    ("diffusion/held.py", "Masses", "in_host"): RESULT,
    ("diffusion/pinned.py", "PinnedPositions", "np.array"): RESULT,
    ("diffusion/records.py", "OwnRows", "in_host"): RESULT,
    ("diffusion/step.py", "read", "np.array"): RESULT,
    ("diffusion/reading.py", "Read", "np.array"): RESULT,
    ("generation/noise.py", "philox_at", "np.asarray"): INDICES,
    ("kernels/check.py", "as_float64", "np.asarray"): CHECK,
    ("kernels/check.py", "unpacked_exactly", "np.asarray"): CHECK,
    ("kernels/denoise/checks.py", "CommitCase", "np.array"): CHECK,
    ("kernels/denoise/checks.py", "SampleCase", "np.array"): CHECK,
    ("kernels/experts/cases.py", "CombineCase", "np.asarray"): CHECK,
    ("kernels/experts/cases.py", "GateUpCase", "np.asarray"): CHECK,
    ("kernels/experts/cases.py", "_experts_in_order", "np.asarray"): CHECK,
    ("kernels/classes/checks.py", "ClassCase", "np.array"): CHECK,
    ("kernels/classes/checks.py", "ClassCase", "np.asarray"): CHECK,
    ("kernels/classes/checks.py", "read_row", "np.array"): CHECK,
    ("kernels/classes/trial.py", "some_bias", "np.asarray"): CHECK,
    ("kernels/soft_gather/checks.py", "gather_rows", "np.array"): CHECK,
}
"""A module, what in it hands arrays to numpy, by which call -> a test's name or a reason."""


def uses(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What at the top of a module hands arrays to numpy, and the call."""
    for top in tree.body:
        for node in ast.walk(top):
            if (call := said(node)) in TO_NUMPY:
                yield name_of(top), call


def said(node: ast.AST) -> str:
    """A name, or one of a module's names."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def name_of(top: ast.stmt) -> str:
    return ast.unparse(top.targets[0]) if isinstance(top, ast.Assign) else getattr(top, "name", "")


def found() -> set[tuple[str, str, str]]:
    """The places of all modules that know MLX; what the others have of it are no arrays."""
    package = ROOT / "mlx_diffgemma"
    texts = {
        file: file.read_text(encoding="utf-8")
        for room in ROOMS
        for file in (package / room).rglob("*.py")
    }
    return {
        (file.relative_to(package).as_posix(), *use)
        for file, text in texts.items()
        if "import mlx" in text
        for use in uses(ast.parse(text))
    }


def test_each_place_is_known() -> None:
    places = found()
    assert places - set(PLACES) == set(), "give it a gradient and a test of it, or say why not"
    assert set(PLACES) - places == set(), "it is gone"


def test_the_tests_named_here_are_there() -> None:
    written = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for test in PLACES.values():
        assert not test.startswith("test_") or f"def {test}(" in written, test


def test_an_operation_of_numpy_is_never_without_a_test() -> None:
    for (_, _, call), said in PLACES.items():
        assert call not in ("numpy_op", "kept_op", "in_numpy") or said.startswith("test_")


@pytest.mark.parametrize(
    ("source", "use"),
    [
        ("op = numpy_op(np.exp)", ("op", "numpy_op")),
        ("def f(x):\n    return g(in_numpy(np.exp, x))", ("f", "in_numpy")),
        ("class A:\n    def f(self, x):\n        return np.array(x)", ("A", "np.array")),
        ("def f(x):\n    return g(*map(np.asarray, x))", ("f", "np.asarray")),
    ],
)
def test_a_place_is_found(source: str, use: tuple[str, str]) -> None:
    assert list(uses(ast.parse(source))) == [use]


# --- refusals


def test_a_function_of_numpy() -> None:
    double = numpy_op(lambda x: 2 * x, lambda given, out, x: (2 * given,))
    assert_gradients(double, lambda x: 2 * x, [random((2, 3), 1)])


def test_a_function_that_keeps() -> None:
    def times(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, Callable[..., tuple]]:
        return x * y, lambda given: (given * y, given * x)

    def sides(x: np.ndarray) -> tuple[tuple[np.ndarray, ...], Callable[..., tuple]]:
        return (x[0], x[1]), lambda *given: (np.stack(given),)

    def both(x: mx.array, y: mx.array) -> mx.array:
        first, second = kept_op(sides)(kept_op(times)(x, y))
        return 2 * first + 3 * second

    inputs = [random((2, 3), seed) for seed in (1, 2)]
    assert_gradients(both, lambda x, y: 2 * (x * y)[0] + 3 * (x * y)[1], inputs)


NONE = mx.zeros(4, mx.int32)  # ids of a canvas
REFUSALS: dict[str, Callable[[mx.array], mx.array]] = {
    "in_numpy": lambda x: in_numpy(np.sin, x),
    "numpy_op": numpy_op(np.sin),
    "total_mass": lambda x: total_mass(x, x.max(axis=-1, keepdims=True)),
    "commit": lambda x: commit(NONE, x[0], NONE, NONE, NONE, 1.0).summary,
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_has_no_gradient_refuses_it(name: str) -> None:
    function, x = REFUSALS[name], mx.array(random((2, 4), 1))
    mx.eval(function(x))
    with pytest.raises(RuntimeError, match="no gradient"):
        mx.eval(mx.grad(lambda x: function(x).sum())(x))


# --- tables and matrices in MLX operations, as generation has them

PACKINGS = {
    "affine 4": Packing("affine", 4, 32),
    "affine 8": Packing("affine", 8, 32),
    "mxfp4": Packing("mxfp4", 4, 32),
    "mxfp8": Packing("mxfp8", 8, 32),
    "nvfp4": Packing("nvfp4", 4, 16),
}
PACKED = 1e-5  # MLX sums float32 in another order, 64 products long


def packed(
    kind: type[PackedMatrix], packing: Packing, *shape: int
) -> tuple[PackedMatrix, np.ndarray]:
    """A packed weight, and its numbers in float64."""
    parts = packing.pack(mx.array(random(shape, 3)))
    own = QuantizationConfig(packing.mode, packing.bits, packing.group_size)
    weight = kind(parts["weight"], parts["scales"], parts.get("biases"), own)
    return weight, np.array(packing.unpack(parts)).astype(np.float64)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_matrix(packing: str) -> None:
    matrix, exact = packed(PackedMatrix, PACKINGS[packing], 32, 64)
    assert_gradients(matrix, lambda x: x @ exact.T, [random((1, 3, 64), 1)], PACKED)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_table(packing: str) -> None:
    table, exact = packed(PackedTable, PACKINGS[packing], 32, 64)
    assert_gradients(table.head, lambda x: x @ exact.T, [random((1, 3, 64), 1)], PACKED)
    assert_gradients(table.mix, lambda x: x @ exact, [random((1, 3, 32), 1)], PACKED)


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_experts(packing: str) -> None:
    matrix, exact = packed(PackedMatrix, PACKINGS[packing], 3, 32, 64)
    check_experts(matrix, exact)


def test_dense_experts() -> None:
    weight = random((3, 32, 64), 3)
    check_experts(DenseMatrix(mx.array(weight)), weight.astype(np.float64))


def check_experts(matrix: DenseMatrix | PackedMatrix, exact: np.ndarray) -> None:
    """Rows that are chosen by their numbers, two experts each, and rows sorted by expert."""
    experts = np.array([[0, 2], [2, 1]], np.uint32)
    rows = mx.array([[0, 0], [1, 1]], mx.uint32)

    def chosen(x: np.ndarray) -> np.ndarray:
        return x[:, None, None] @ exact[experts].swapaxes(-1, -2)

    def by_number(x: mx.array) -> mx.array:
        return matrix.gather(mx.expand_dims(x, (1, 2)), rows, mx.array(experts))

    assert_gradients(by_number, chosen, [random((2, 64), 1)], PACKED)
    ascending = np.array([0, 2, 2], np.uint32)
    assert_gradients(
        lambda x: matrix.gather(x, None, mx.array(ascending)),
        lambda x: x @ exact[ascending].swapaxes(-1, -2),
        [random((3, 1, 64), 1)],
        PACKED,
    )


def test_a_dense_table() -> None:
    weight, ids = random((6, 4), 3), np.array([[1, 5, 1]])
    head = [random((1, 3, 4), 1), weight]
    assert_gradients(lambda x, w: DenseTable(w).head(x), lambda x, w: x @ w.T, head)
    assert_gradients(lambda x, w: DenseTable(w).mix(x), np.matmul, [random((1, 3, 6), 1), weight])
    assert_gradients(
        lambda w: DenseTable(w).rows(mx.array(ids), mx.float32), lambda w: w[ids], [weight]
    )


def test_the_soft_embedding() -> None:
    def plain(logits: np.ndarray, weight: np.ndarray) -> np.ndarray:
        shares = np.exp(logits)
        return shares / shares.sum(-1, keepdims=True) @ weight * 2.0

    def soft(logits: mx.array, weight: mx.array) -> mx.array:
        return Embedding(DenseTable(weight), 6, 4, mx.float32).soft(logits)

    assert_gradients(soft, plain, [random((1, 3, 6), 1), random((6, 4), 2)])


# --- the network of generation


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    sizes = Sizes("sf", 37, 16, head_dim=4, global_head_dim=8, canvas_length=4)
    return dg.load_model(write_checkpoint(tmp_path_factory.mktemp("network"), sizes))


def test_logits_of_the_network(model: dg.Model) -> None:
    """They were constants to MLX where numpy multiplied: the gradient was 0 without a word."""
    table = np.array(model.embedding.table.weight).astype(np.float64)
    hidden = random((1, 3, 16), 1, 3.0)
    assert_gradients(model.logits, lambda x: 30 * np.tanh(x @ table.T / 30), [hidden])


def test_the_decoder_by_its_soft_embedding(model: dg.Model) -> None:
    prefix, canvas = model.encode(range(9)), [3, 1, 4, 1]
    weights = mx.array(random((1, 4, 37), 5))

    def scored(soft: mx.array) -> mx.array:
        return (model.logits(model.decode(canvas, prefix, soft)) * weights).sum()

    soft, along = (mx.array(random((1, 4, 16), seed)) for seed in (1, 2))

    def difference(step: float) -> float:
        """The central one; two of them together are right to the fourth order of the step."""
        return (scored(soft + step * along) - scored(soft - step * along)).item() / (2 * step)

    differences = (4 * difference(1e-2) - difference(2e-2)) / 3
    slope = (mx.grad(scored)(soft) * along).sum().item()
    assert abs(slope) > 1
    assert_near(slope, differences, 1e-3, "slope")
