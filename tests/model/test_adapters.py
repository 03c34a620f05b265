"""An adapter that is applied computes what the merged weight does, in both passes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from adapting import Values, random_values, write_adapter
from checkpoints import (
    Packing,
    Sizes,
    Tensors,
    dequantised_folder,
    load_tensors,
    published,
    quantise_folder,
    random_tensors,
    write_checkpoint,
)
from compare import assert_close
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.errors import FitError, PromptError
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.model import memory
from mlx_diffgemma.model.adapters import Dropout, applied, on_parts
from mlx_diffgemma.model.arrays import distinct_arrays
from mlx_diffgemma.model.matrices import AdaptedMatrix, Adapter, DenseMatrix, JoinedMatrix
from mlx_diffgemma.model.memory import fit_check, plan_memory
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.model.variants import variant

SIZES = Sizes("sf", vocab_size=40)
PACKABLE = Sizes("sf", vocab_size=64, intermediate_size=32, moe_intermediate_size=32)
SCALE = 0.7
PROMPT = list(range(3, 20))
CANVAS = mx.arange(8)
CONDITIONING = "self_conditioning."
TARGETS = [
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    *(f"experts.{part}_proj" for part in ("gate_up", "down")),
    "router.proj",
    *(f"{CONDITIONING}{part}_proj" for part in ("gate", "up", "down")),
    "all",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "base", SIZES)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed by the published recipe, in float32."""
    dense = write_checkpoint(tmp_path_factory.mktemp("dense"), PACKABLE)
    four, eight = Packing("affine", 4, 32), Packing("affine", 8, 32)
    return quantise_folder(dense, tmp_path_factory.mktemp("packed"), four, published(four, eight))


def merged(tensors: Tensors, values: Values, scale: float) -> Tensors:
    """The weights of a Hugging Face folder with adapters added, in float64."""
    made = dict(tensors)
    for name in values:
        module, _, part = name.rpartition(".")
        if part == "lora_a":
            a, b = (np.array(values[f"{module}.{p}"], np.float64) for p in ("lora_a", "lora_b"))
            key = module if module in tensors else f"{module}.weight"
            made[key] = (tensors[key] + scale * np.swapaxes(a @ b, -1, -2)).astype(np.float32)
    return made


def passes(model: Model) -> Iterator[tuple[str, mx.array]]:
    """Logits of the encoder, of the decoder alone and behind a prompt, and of a token."""
    yield "encoder", model.logits(model.encode_hidden(PROMPT, model.new_prefix()))
    yield "decoder", model.logits(model.decode(CANVAS, model.new_prefix()))
    prefix = model.encode(PROMPT)
    first = model.logits(model.decode(CANVAS, prefix))
    soft = model.soft_embedding(first)
    yield "conditioned decoder", model.logits(model.decode(CANVAS, prefix, soft))
    yield "token", model.step(5, prefix)


@pytest.mark.parametrize("target", TARGETS)
def test_merged_is_applied_and_both_passes_change(
    tmp_path: Path, folder: Path, target: str
) -> None:
    """One adapter is on the weight that encoder and decoder share: merging cannot add it twice."""
    values = random_values(folder, [target])
    model = dg.load_model(folder)
    other = write_checkpoint(tmp_path, SIZES, tensors=merged(random_tensors(SIZES), values, SCALE))
    expected = dict(passes(dg.load_model(other)))
    before = dict(passes(model))
    for name, logits in passes(applied(model, values, SCALE)):
        assert_close(logits, expected[name], 1e-5, f"{name} with {target}")
        changed = float(mx.abs(logits - before[name]).max()) > 1e-3
        only_conditioned = target.startswith(CONDITIONING)
        assert changed is (name == "conditioned decoder" or not only_conditioned), name


def test_packed_weights_are_those_that_an_adapter_is_added_to(tmp_path: Path, packed: Path) -> None:
    """QLoRA: what is packed stays packed. Equal to merging into the very numbers it holds."""
    dense = dequantised_folder(packed, tmp_path / "dense")
    values = random_values(packed)
    numbers = {name: np.array(array) for name, array in load_tensors(dense).items()}
    other = write_checkpoint(tmp_path / "m", PACKABLE, tensors=merged(numbers, values, SCALE))
    expected = dict(passes(dg.load_model(other)))
    model = applied(dg.load_model(packed), values, SCALE)
    for name, logits in passes(model):
        assert_close(logits, expected[name], 2e-5, name)  # scales widened at another place


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_sixteen_bits(tmp_path: Path, folder: Path, dtype: mx.Dtype) -> None:
    values = random_values(folder)
    expected = dict(passes(applied(dg.load_model(folder), values, SCALE)))
    model = applied(dg.load_model(folder, dtype=dtype), values, SCALE)
    assert model.layers[0].attention.out(mx.zeros((1, 32), dtype)).dtype == dtype
    for name, logits in passes(model):
        wide = float(mx.abs(expected[name]).max())
        assert_close(logits, expected[name], 0.1 * wide, name)  # two layers of random weights


def test_the_arithmetic_is_that_of_mlx_lm() -> None:
    """y = x W + scale * (x A) B: mlx_lm.tuner.lora LoRALinear, transcribed."""
    x, w, a, b = (mx.random.normal(shape) for shape in ((5, 12), (7, 12), (12, 3), (3, 7)))
    adapted = AdaptedMatrix(DenseMatrix(w), [Adapter(a, b, 1.5)], [7])
    assert_close(adapted(x), x @ w.T + 1.5 * ((x @ a) @ b), 1e-5, "rows")


def test_experts_given_in_either_order() -> None:
    """Rows with their numbers, or grouped by expert, which is the form of long inputs."""
    E, I, O, R = 3, 8, 6, 2  # noqa: E741
    w, a, b = (mx.random.normal(shape) for shape in ((E, O, I), (E, I, R), (E, R, O)))
    matrix = AdaptedMatrix(DenseMatrix(w), [Adapter(a, b, 0.5)], [O])
    x, experts = mx.random.normal((5, 1, 1, I)), mx.array([[0], [0], [1], [2], [2]])
    whole = w.swapaxes(1, 2) + 0.5 * (a @ b)
    expected = mx.stack([x[n, 0] @ whole[e] for n, e in enumerate((0, 0, 1, 2, 2))])
    rows = mx.arange(5, dtype=mx.uint32)[:, None]
    assert_close(matrix.gather(x, rows, experts).squeeze(1), expected, 1e-5, "with numbers")
    assert_close(matrix.gather(x[:, 0], None, experts[:, 0]), expected, 1e-5, "grouped")


def test_parts_of_one_input_in_one_product_and_apart() -> None:
    """Dropout differs from part to part; without it one product of all parts' ranks is enough."""
    parts = [DenseMatrix(mx.random.normal((width, 6))) for width in (4, 3, 5)]
    base, x = JoinedMatrix(parts), mx.random.normal((2, 6))
    names = {"at.q": 4, "at.k": 3, "at.v": 5}
    adapters = {
        "at.q": Adapter(mx.random.normal((6, 2)), mx.random.normal((2, 4)), 0.5),
        "at.v": Adapter(mx.random.normal((6, 3)), mx.random.normal((3, 5)), 0.5),
    }
    short = {name[3:]: width for name, width in names.items()}
    together = on_parts(base, "at", short, adapters)
    apart = AdaptedMatrix(base, [adapters.get(name) for name in names], list(names.values()))
    assert isinstance(together, AdaptedMatrix)
    assert len(together.adapters) == 1
    assert_close(together(x), apart(x), 1e-6, "outputs")


def test_experts_without_an_adapter_keep_their_kernels(folder: Path) -> None:
    values = random_values(folder, ["layers.0.experts.*", "layers.1.mlp.*"])
    made = applied(dg.load_model(folder), values, SCALE)
    experts = [layer.after_attention.experts for layer in made.layers]
    assert [each.in_operations for each in experts] == [True, False]


def test_the_weights_are_shared_and_the_base_stays(folder: Path) -> None:
    model = dg.load_model(folder)
    before = dict(passes(model))
    made = applied(model, random_values(folder), SCALE)
    own = {id(array) for array in distinct_arrays(made.layers)}
    assert {id(array) for array in distinct_arrays(model.layers)} <= own
    for name, logits in passes(model):
        assert bool(mx.array_equal(logits, before[name])), name


def test_unpacked_weights_beside_an_adapter(packed: Path) -> None:
    """What `profile --tune` chose is the base's, whichever of both comes first."""
    model = dg.load_model(packed, dtype=mx.bfloat16)
    values, unpacked = random_values(packed), Choices(dense_weights="16-bit")
    first = applied(variant(model, unpacked), values, SCALE)
    second = variant(applied(model, values, SCALE), unpacked)
    for (name, a), (_, b) in zip(passes(first), passes(second), strict=True):
        assert_close(a, b, 0, name)
    matrix = second.layers[0].attention.out
    assert isinstance(matrix, AdaptedMatrix)
    assert isinstance(matrix.base, DenseMatrix)


def test_a_prefix_of_another_adapter_is_refused(folder: Path) -> None:
    model = dg.load_model(folder)
    made = applied(model, random_values(folder), SCALE)
    with raises(PromptError, "another model", most=500):
        made.decode(CANVAS, model.encode(PROMPT))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_memory_plan_counts_adapters(tmp_path: Path, packed: Path, dtype: str) -> None:
    write_adapter(tmp_path / "adapter", packed)
    files = open_adapter(tmp_path / "adapter", packed)
    made = dg.load_model(packed, getattr(mx, dtype), adapter=tmp_path / "adapter")
    held = sum(array.nbytes for array in distinct_arrays(made))
    plan = plan_memory(packed, dtype, adapter=files)
    assert plan.weights.held_bytes == held
    assert held > plan_memory(packed, dtype).weights.held_bytes
    assert plan.weights.loading_bytes >= held


def test_what_does_not_fit_with_an_adapter_is_refused(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "adapter", packed)
    files = open_adapter(tmp_path / "adapter", packed)
    need = plan_memory(packed)(0).needed_bytes
    monkeypatch.setattr(memory, "available_memory", lambda: need)
    fit_check(packed)(0)
    with raises(FitError, "weights"):
        fit_check(packed, adapter=files)(0)


def test_dropout_follows_from_moment_module_and_shape() -> None:
    x, drop = mx.ones((400, 10)), Dropout(0.25, (7, 3))
    first = drop(x, "a")
    assert bool(mx.array_equal(first, drop(x, "a")))
    for other in (
        drop(x, "b"),
        replace(drop, moment=(7, 4))(x, "a"),
        replace(drop, moment=(8, 3))(x, "a"),
    ):
        assert not bool(mx.array_equal(first, other))
    assert set(np.unique(np.array(first)).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert abs(float(first.mean()) - 1) < 0.05  # 4,000 draws: six standard errors


def test_gradients_go_through_the_same_zeros() -> None:
    """The gradient of A is that with the mask put in by hand, and 0 where the input was dropped."""
    x, w, a, b = (mx.random.normal(shape) for shape in ((4, 6), (5, 6), (6, 2), (2, 5)))
    drop = partial(Dropout(0.5, (1, 2)), module="m")
    kept = drop(mx.ones(x.shape))

    def loss(a: mx.array) -> mx.array:
        out = AdaptedMatrix(DenseMatrix(w), [Adapter(a, b, 2.0, drop)], [5])(x)
        return (out * out).sum()

    def by_hand(a: mx.array) -> mx.array:
        out = x @ w.T + 2.0 * ((x * kept) @ a) @ b
        return (out * out).sum()

    assert_close(mx.grad(loss)(a), mx.grad(by_hand)(a), 1e-3, "gradient of A")
