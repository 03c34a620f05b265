"""Targets by name, shapes of variables, and first values."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from adapting import random_values, write_adapter
from checkpoints import Sizes, write_checkpoint
from compare import assert_close
from facts import raises

from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.checkpoint.layout import matrix_shapes
from mlx_diffgemma.errors import SettingsError
from mlx_diffgemma.finetune.lora import initial, select, variables
from mlx_diffgemma.finetune.parameters import TrainedAdapters
from mlx_diffgemma.finetune.passes import Passes
from mlx_diffgemma.model.adapters import applied
from mlx_diffgemma.model.matrices import AdaptedMatrix, Adapter, DenseMatrix
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


def test_training_computes_what_is_applied(folder: Path, config: ModelConfig) -> None:
    """The passes of training, and the model that `--adapter` makes of their values."""
    model, values = load_network(folder).model, random_values(folder)
    trained = TrainedAdapters(model, select(config, ["all"]), 0.5)
    ids, canvas = mx.arange(3, 20), mx.arange(8)
    run = Passes(trained, values)
    encoded = run.encode(ids[None])
    hidden = run.decode(canvas[None], mx.array([17]), encoded, None).hidden
    made = applied(model, values, 0.5)
    prefix = made.encode(ids)
    assert_close(hidden, made.decode(canvas, prefix), 1e-5, "canvas")
    whole = made.encode_hidden(ids, made.new_prefix())
    assert_close(encoded.hidden, whole, 1e-5, "prompt")


def test_dropout_is_that_of_the_step_and_of_no_other_time(
    folder: Path, config: ModelConfig
) -> None:
    """A step that is run again, or computed twice for its gradient, has the same zeros."""
    model, values = load_network(folder).model, random_values(folder)
    trained = TrainedAdapters(model, select(config, ["mlp"]), 0.5, dropout=0.5)

    def hidden(*moment: int, checkpoint: bool = False) -> mx.array:
        now = trained.at(*moment) if moment else trained
        return Passes(now, values, checkpoint).encode(mx.arange(3, 20)[None]).hidden

    def gradient(checkpoint: bool) -> mx.array:
        name = "model.decoder.layers.0.mlp.up_proj.lora_a"

        def loss(a: mx.array) -> mx.array:
            run = Passes(trained.at(7, 1), values | {name: a}, checkpoint)
            return run.encode(mx.arange(3, 20)[None]).hidden.square().sum()

        return mx.grad(loss)(values[name])

    first = hidden(7, 1)
    assert bool(mx.array_equal(first, hidden(7, 1)))
    for other in (hidden(7, 2), hidden(8, 1), hidden()):
        assert not bool(mx.array_equal(first, other))
    assert_close(gradient(True), gradient(False), 0, "gradient of a layer computed twice")
    assert trained.at(7, 1).names_of_layer(0) == trained.names_of_layer(0)


@pytest.mark.slow  # mlx-lm's import takes seconds
def test_mlx_lm_reads_the_folder_and_computes_the_same(tmp_path: Path, folder: Path) -> None:
    """Its own loader finds every tensor on modules of these names, with these shapes."""
    import mlx.nn as nn
    from mlx_lm.models.switch_layers import SwitchLinear
    from mlx_lm.tuner.utils import load_adapters

    write_adapter(tmp_path / "adapter", folder, ["layers.0.mlp.up_proj", "layers.0.experts.*"])
    values = open_adapter(tmp_path / "adapter", folder).load()

    class Empty(nn.Module):
        pass

    tree = Empty()
    tree.model = Empty()
    tree.model.decoder = Empty()
    layer = Empty()
    tree.model.decoder.layers = [layer]
    layer.mlp, layer.experts = Empty(), Empty()
    layer.mlp.up_proj = nn.Linear(32, 24, bias=False)
    layer.experts.gate_up_proj = SwitchLinear(32, 32, 4, bias=False)
    layer.experts.down_proj = SwitchLinear(16, 32, 4, bias=False)
    tree.layers = []
    dense, experts = layer.mlp.up_proj.weight, layer.experts.down_proj.weight
    load_adapters(tree, str(tmp_path / "adapter"))
    x, at = mx.random.normal((5, 32)), "model.decoder.layers.0"
    a, b = (values[f"{at}.mlp.up_proj.{part}"] for part in ("lora_a", "lora_b"))
    ours = AdaptedMatrix(DenseMatrix(dense), [Adapter(a, b, 0.5)], [24])
    assert_close(ours(x), layer.mlp.up_proj(x), 1e-5, "a matrix")
    a, b = (values[f"{at}.experts.down_proj.{part}"] for part in ("lora_a", "lora_b"))
    ours = AdaptedMatrix(DenseMatrix(experts), [Adapter(a, b, 0.5)], [32])
    inner, chosen = mx.random.normal((3, 1, 16)), mx.array([0, 2, 3])
    theirs = layer.experts.down_proj(inner, chosen)
    assert_close(ours.gather(inner, None, chosen), theirs, 1e-5, "experts")
