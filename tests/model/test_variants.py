"""A network for other choices computes the same, and shares what they leave alone."""

from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.kernels.check import as_float64
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.model.arrays import distinct_arrays
from mlx_diffgemma.model.matrices import DenseMatrix, PackedMatrix
from mlx_diffgemma.model.memory import fit_check, plan_memory
from mlx_diffgemma.model.tables import CopiedTable, DenseTable, PackedTable, SlicedTable
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.model.variants import variant
from mlx_diffgemma.model.weights import load_network

PROMPT = list(range(3, 40))
UNPACKED, COPIED = Choices(dense_weights="16-bit"), Choices(soft_product="16-bit")
SLICED = Choices(soft_product="slices")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed by the published recipe, in bfloat16."""
    sizes = Sizes("ssf", intermediate_size=32, moe_intermediate_size=32, vocab_size=128)
    dense = write_checkpoint(tmp_path_factory.mktemp("dense"), sizes, dtype="bfloat16")
    four = Packing("affine", 4, 32)
    recipe = published(four, Packing("affine", 8, 32))
    return quantise_folder(dense, tmp_path_factory.mktemp("packed"), four, recipe)


def logits(model: Model) -> mx.array:
    prefix = model.encode(PROMPT)
    return model.logits(model.decode(mx.arange(8), prefix))


def test_unpacked_weights_compute_the_same(packed: Path) -> None:
    model = dg.load_model(packed)
    made = variant(model, UNPACKED)
    got, want = np.array(logits(made)), np.array(logits(model))
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()  # bfloat16, three layers


def test_dense_weights_are_unpacked_and_experts_shared(packed: Path) -> None:
    model = dg.load_model(packed)
    made = variant(model, UNPACKED)
    assert isinstance(made.embedding.table, DenseTable)
    for before, layer in zip(model.layers, made.layers, strict=True):
        after = layer.after_attention
        for matrix in (layer.attention.out, after.mlp.down, after.mlp.gate_up):
            assert isinstance(matrix, DenseMatrix)
        assert isinstance(layer.attention.qkv, DenseMatrix)
        assert isinstance(before.attention.out, PackedMatrix)
        assert after.experts.gate_up is before.after_attention.experts.gate_up
        assert isinstance(after.experts.gate_up, PackedMatrix)


@pytest.mark.parametrize(("choices", "kind"), [(COPIED, CopiedTable), (SLICED, SlicedTable)])
def test_the_product_of_distributions_is_chosen_alone(
    packed: Path, choices: Choices, kind: type[PackedTable]
) -> None:
    """All else is shared, and soft embeddings are the same to within roundings of bfloat16."""
    model = dg.load_model(packed)
    made = variant(model, choices)
    assert type(made.embedding.table) is kind
    own = {id(array) for array in distinct_arrays(model)}
    anew = [array.shape for array in distinct_arrays(made) if id(array) not in own]
    copied = [(128, model.config.text.hidden_size)] if kind is CopiedTable else []
    assert [shape for shape in anew if shape] == copied
    processed = mx.random.normal((8, 128), key=mx.random.key(1))
    got, want = (as_float64(of.embedding.soft(processed)) for of in (made, model))
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


def test_choices_reach_what_they_choose(packed: Path) -> None:
    preferences = {"experts_kernels": "off", "denoise_kernels": "on", "soft_gather_kernels": "off"}
    choices = Choices.from_json({**asdict(Choices()), **preferences})
    made = load_network(packed, choices=choices).model
    assert made.choices == choices
    assert {layer.after_attention.experts.kernels for layer in made.layers} == {"off"}
    assert made.choices.soft_gather_kernels == "off"
    assert load_network(packed, choices=Choices(dtype="float16")).model.dtype == mx.float16


def test_the_prefill_chunk_is_what_a_prompt_is_encoded_by(packed: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = variant(dg.load_model(packed), Choices(prefill_chunk=10))
    made.encode(PROMPT, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [10, 20, 30, 37]


@pytest.mark.parametrize("choices", [UNPACKED, COPIED])
def test_float32_refuses_16_bit_weights(packed: Path, choices: Choices) -> None:
    with pytest.raises(dg.SettingsError, match="activations are float32"):
        variant(dg.load_model(packed, mx.float32), choices)


def test_an_embedding_is_unpacked_once() -> None:
    with raises(dg.SettingsError, "soft_product ... slices ... dense_weights ... 16-bit"):
        Choices(dense_weights="16-bit", soft_product="slices")


@pytest.mark.parametrize("choices", [UNPACKED, COPIED])
def test_the_memory_of_unpacked_weights_is_counted(packed: Path, choices: Choices) -> None:
    model = dg.load_model(packed)
    made = variant(model, choices)
    dense = {id(array): array.nbytes for array in distinct_arrays(made)}
    both = dense | {id(array): array.nbytes for array in distinct_arrays(model)}
    plan = plan_memory(packed, choices=choices)
    assert plan.weights.held_bytes == sum(dense.values())
    assert plan.weights.loading_bytes >= sum(both.values())  # side by side until all are unpacked
    assert plan.weights.held_bytes > plan_memory(packed).weights.held_bytes
    assert plan_memory(packed, choices=SLICED).weights == plan_memory(packed).weights


def test_float32_is_refused_16_bit_weights_before_any_is_read(packed: Path) -> None:
    with pytest.raises(dg.SettingsError, match="activations are float32"):
        plan_memory(packed, "float32", UNPACKED)


def test_what_does_not_fit_when_tuned_says_so(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 1_000)
    with pytest.raises(dg.FitError, match="--no-tune"):
        fit_check(packed, None, UNPACKED)(0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefill_chunk", 0),
        ("head_chunk_logits", True),
        ("dense_weights", None),
        ("soft_product", 16),
        ("dtype", "int8"),
    ],
)
def test_choices_are_checked(name: str, value: object) -> None:
    with pytest.raises(dg.SettingsError, match=name):
        Choices.from_json({**asdict(Choices()), name: value})
