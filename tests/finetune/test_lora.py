"""Targets by name, shapes of variables, and first values."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from checkpoints import Sizes, write_checkpoint
from facts import raises

from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.checkpoint.layout import matrix_shapes
from mlx_diffgemma.errors import SettingsError
from mlx_diffgemma.finetune.lora import initial, select, variables
from mlx_diffgemma.model.weights import load_network

SIZES = Sizes("sf", vocab_size=40)
LAYER = "model.decoder.layers"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), SIZES)


@pytest.fixture(scope="module")
def config(folder: Path) -> ModelConfig:
    return read_config(folder)


def test_attention_and_dense_mlp_unless_told_otherwise(config: ModelConfig) -> None:
    sliding = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "self_attn.v_proj"]
    mlp = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    expected = {f"{LAYER}.0.{name}" for name in sliding + mlp}
    expected |= {f"{LAYER}.1.{name}" for name in sliding[:3] + mlp}
    assert set(select(config)) == expected


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["router"], [f"{LAYER}.0.router.proj", f"{LAYER}.1.router.proj"]),
        (["v_proj"], [f"{LAYER}.0.self_attn.v_proj"]),
        (["layers.1.experts.*"], [f"{LAYER}.1.experts.{p}_proj" for p in ("gate_up", "down")]),
        (["*.1.mlp.up_proj", "1.mlp.[gu]*"], [f"{LAYER}.1.mlp.{p}_proj" for p in ("gate", "up")]),
        (
            ["self-conditioning"],
            [f"model.decoder.self_conditioning.{p}_proj" for p in ("gate", "up", "down")],
        ),
    ],
)
def test_targets(config: ModelConfig, targets: Sequence[str], expected: list[str]) -> None:
    assert list(select(config, targets)) == expected


def test_all_are_all_matrices_but_the_embedding(config: ModelConfig) -> None:
    modules = select(config, ["all"])
    assert len(modules) == 3 + 10 + 9
    assert not [module for module in modules if "embed_tokens" in module]


@pytest.mark.parametrize("target", ["q_prj", "layers.2.mlp.*", "embed_tokens", "", "proj"])
def test_unknown_targets(config: ModelConfig, target: str) -> None:
    known = "attention, mlp, experts, router, self-conditioning, all ... q_proj"
    if target == "proj":  # the end of a name is a whole word, and router.proj has this one
        assert len(select(config, [target])) == 2
        return
    with raises(SettingsError, "targets", repr(target), known):
        select(config, ["attention", target])


def test_full_layers_have_no_values_of_their_own(config: ModelConfig) -> None:
    with raises(SettingsError, "targets ... layers.1.self_attn.v_proj ... V is K"):
        select(config, ["layers.1.self_attn.v_proj"])


def test_no_targets(config: ModelConfig) -> None:
    with raises(SettingsError, "targets ... none"):
        select(config, [])


@pytest.mark.parametrize(("rank", "said"), [(0, "1 or more"), (-1, "1 or more"), (5, "rank 4")])
def test_a_rank_that_a_matrix_lacks(config: ModelConfig, rank: int, said: str) -> None:
    """The router has 4 outputs."""
    with raises(SettingsError, "lora_rank", rank, said):
        variables(config, select(config, ["all"]), rank)


def test_shapes_are_those_of_the_network(folder: Path, config: ModelConfig) -> None:
    """What is named and shaped here is what the loader binds."""
    model = load_network(folder).model
    for name, shape in matrix_shapes(config.text).items():
        made = variables(config, [name], 2)
        *experts, outputs, inputs = shape
        assert made[f"{name}.lora_a"] == (*experts, inputs, 2)
        assert made[f"{name}.lora_b"] == (*experts, 2, outputs)
    layer = model.layers[0]
    experts = layer.after_attention.experts
    assert (
        experts.gate_up.stored.shape
        == matrix_shapes(config.text)[f"{LAYER}.0.experts.gate_up_proj"]
    )
    assert experts.down.stored.shape == matrix_shapes(config.text)[f"{LAYER}.0.experts.down_proj"]


def test_first_values_change_nothing_and_follow_from_seed_and_name(config: ModelConfig) -> None:
    modules = select(config, ["all"])
    first, again, other = (initial(config, modules, 2, seed) for seed in (1, 1, 2))
    alone = initial(config, modules[4:5], 2, 1)
    name = f"{modules[4]}.lora_a"
    bound = first[name].shape[-2] ** -0.5
    for module in modules:
        assert bool(mx.array_equal(first[f"{module}.lora_a"], again[f"{module}.lora_a"]))
        assert not bool(mx.any(first[f"{module}.lora_b"]))
    assert bool(mx.array_equal(first[name], alone[name]))
    assert not bool(mx.array_equal(first[name], other[name]))
    assert 0.5 * bound < float(mx.abs(first[name]).max()) <= bound
    assert {array.dtype for array in first.values()} == {mx.float32}
    shapes = variables(config, modules, 2)
    assert {name: array.shape for name, array in first.items()} == shapes
