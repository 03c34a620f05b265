"""Both passes over batches: what generation computes, with gradients, and nothing written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, load_tensors, write_checkpoint
from example_batches import Shape, random_batch
from gradients import assert_near, random

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.tensors import mlx_name
from mlx_diffgemma.finetune.lora import initial, select
from mlx_diffgemma.finetune.objective import Batch, Objective
from mlx_diffgemma.finetune.parameters import Trained, TrainedAdapters, TrainedWeights
from mlx_diffgemma.finetune.passes import Passes, imbalance
from mlx_diffgemma.model.cache import LayerCache
from mlx_diffgemma.model.experts import Routing

HIDDEN = 1e-5  # of the largest number: float32, summed in another order

SIZES = {
    "text": Sizes("ssf", 37, 16, head_dim=4, global_head_dim=8, sliding_window=4, canvas_length=4),
    "images": Sizes("sff", 37, 16, sliding_window=4, canvas_length=4, vision=True),
}


class Network:
    """A random checkpoint, loaded and as variables."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.sizes, self.config = sizes, read_config(folder)
        self.model = dg.load_model(folder)
        tensors = {n: a for n, a in load_tensors(folder).items() if "vision" not in n}
        self.weights = {mlx_name(name): array for name, array in tensors.items()}

    def batch(self, **shape: Any) -> Batch:
        return random_batch(self.sizes, Shape(images=self.sizes.vision, **shape), 5)

    def whole(self) -> tuple[Trained, Mapping[str, mx.array]]:
        return TrainedWeights(self.config, tuple(self.weights), self.model), self.weights

    def adapters(self, packed: bool = False) -> tuple[Trained, Mapping[str, mx.array]]:
        modules = select(self.config, ["all"])
        values = {
            name: array + 0.1 * mx.array(random(array.shape, seed))
            for seed, (name, array) in enumerate(initial(self.config, modules, 2, 1).items())
        }
        return TrainedAdapters(self.model, modules, 2.0, packed=packed), values


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Network]:
    return {
        name: Network(write_checkpoint(tmp_path_factory.mktemp(name), sizes), sizes)
        for name, sizes in SIZES.items()
    }


@pytest.fixture
def network(networks: dict[str, Network]) -> Network:
    return networks["text"]


def features(network: Network, batch: Batch) -> list[tuple[int, int, mx.array]]:
    return [
        (row, image.span.start, network.model.image_features([image.pixels])[0])
        for row, image in batch.images
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["by numpy", "as stored"])
@pytest.mark.parametrize("kind", SIZES)
def test_they_are_the_passes_of_generation(
    networks: dict[str, Network], kind: str, packed: bool
) -> None:
    """Of each example alone, without padding, by a prefix; canvases behind a part of it."""
    network = networks[kind]
    batch = network.batch(prompts=(9, 2), canvases=(2, 1), each=2)
    frozen = TrainedAdapters(network.model, (), 1.0, packed=packed)
    passes = Passes(frozen, {})
    encoded = passes.encode(batch.ids, features(network, batch))
    soft = mx.array(random((4, 4, 16), 3))
    decoded = passes.decode(batch.noisy, batch.starts, encoded, soft).hidden
    assert batch.lengths is not None
    for b, length in enumerate(batch.lengths.tolist()):
        images = [image.pixels for row, image in batch.images if row == b]
        ids = batch.ids[b, :length].tolist()
        prefix = network.model.new_prefix()
        hidden = network.model.encode_hidden(ids, prefix, images=images)
        assert_near(encoded.hidden[b : b + 1, :length], hidden, HIDDEN, "hidden")
        for m in (2 * b, 2 * b + 1):
            prefix = network.model.encode(ids[: batch.starts[m]], images=images)
            hidden = network.model.decode(batch.noisy[m], prefix, soft[m : m + 1])
            assert_near(decoded[m : m + 1], hidden, HIDDEN, "hidden of a canvas")


def gradients(
    objective: Objective, trained: Trained, values: Mapping[str, mx.array], batch: Batch
) -> tuple[mx.array, dict[str, mx.array]]:
    def total(values: dict[str, mx.array]) -> mx.array:
        return objective(trained, values, batch).total

    loss, found = mx.value_and_grad(total)(dict(values))
    mx.eval(loss, found)
    return loss, found


@pytest.mark.parametrize("kind", ["weights", "adapters", "packed", "adapters and images"])
def test_checkpoints_change_nothing(
    networks: dict[str, Network], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses to the bit, the gradients to 1e-6, and no cache is ever written."""
    network = networks["images" if "images" in kind else "text"]
    trained, values = network.whole() if kind == "weights" else network.adapters(kind == "packed")
    batch = network.batch()

    def never(*_: object) -> None:
        raise AssertionError("a cache is written")

    for name in ("write", "make_room"):
        monkeypatch.setattr(LayerCache, name, never)
    loss, plain = gradients(Objective(balance=0.1), trained, values, batch)
    again, found = gradients(Objective(balance=0.1, checkpoint=True), trained, values, batch)
    assert loss.item() == again.item()
    largest = max(mx.abs(array).max().item() for array in plain.values())
    for name, array in found.items():
        difference = mx.abs(array - plain[name]).max().item()
        assert difference <= 1e-6 * largest, name
        assert mx.abs(array).max().item() > 0, name


def test_dropout_is_the_same_when_a_layer_is_computed_again(network: Network) -> None:
    modules, batch = select(network.config), network.batch()
    values = network.adapters()[1]
    own = {name: array for name, array in values.items() if name.rpartition(".")[0] in modules}
    trained = TrainedAdapters(network.model, modules, 2.0, dropout=0.5).at(7, 3)
    loss, plain = gradients(Objective(), trained, own, batch)
    again, found = gradients(Objective(checkpoint=True), trained, own, batch)
    assert loss.item() == again.item()
    for name, array in found.items():
        assert_near(array, plain[name], 1e-5, name)


def test_canvases_reach_the_encoder(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a loss of its own the encoder's scalars learn through keys and values alone."""
    trained, values = network.whole()
    batch = network.batch(conditioned=0.0)  # a first pass is a constant, which differences are not
    batch.next_weights[:] = 0
    name = "model.encoder.language_model.layers.0.layer_scalar"
    _, found = gradients(Objective(), trained, values, batch)
    assert abs(found[name].item()) > 1e-4
    slope = differences(
        lambda x: Objective()(trained, {**values, name: x}, batch).total.item(), values[name]
    )
    assert_near(found[name].item(), slope, 1e-2, name)
    decode = Passes.decode

    def cut(self: Passes, canvases: Any, starts: Any, encoded: Any, soft: Any) -> Any:
        keys, inner = ([mx.stop_gradient(a) for a in part] for part in encoded[1:3])
        return decode(self, canvases, starts, encoded._replace(keys=keys, values=inner), soft)

    monkeypatch.setattr(Passes, "decode", cut)
    _, without = gradients(Objective(), trained, values, batch)
    assert without[name].item() == 0
    shared = "model.decoder.layers.0.self_attn.k_proj.weight"
    assert mx.abs(found[shared] - without[shared]).max().item() > 1e-4


def differences(function: Callable[[mx.array], float], x: mx.array, step: float = 1e-2) -> float:
    """The central difference by a single number, right to the fourth order of the step."""
    near, far = ((function(x + h) - function(x - h)) / (2 * h) for h in (step, 2 * step))
    return (4 * near - far) / 3


def test_a_layer_gets_its_own_variables_alone(network: Network) -> None:
    """The tower of a checkpoint has layers too."""
    tower = "model.encoder.vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight"
    trained = TrainedWeights(network.config, (*network.weights, tower))
    for number in range(len(network.config.text.layers)):
        names = trained.names_of_layer(number)
        assert tower not in names
        assert f"model.encoder.language_model.layers.{number}.layer_scalar" in names
        assert all(f".layers.{number}." in name for name in names)
    ends = {name for name in network.weights if ".layers." not in name}
    layers = [trained.names_of_layer(n) for n in range(len(network.config.text.layers))]
    assert ends | {name for names in layers for name in names} == set(network.weights)


# --- how unevenly experts are used


def test_imbalance() -> None:
    """1 where all experts are used alike, E / K at most; rows that do not count change nothing."""
    ones, rows = mx.ones(4), mx.full((3,), 1 / 3)
    even = mx.array([[9.0, 9, 0, 0], [0, 0, 9, 9], [0, 0, 9, 9]])
    counted = mx.array([0.5, 0.25, 0.25])
    assert imbalance(Routing(even, ones, 2), counted).item() == pytest.approx(1)
    one_sided = mx.array([[99.0, 0, 0, 0]] * 3)
    assert imbalance(Routing(one_sided, ones, 1), rows).item() == pytest.approx(4)
    padded = mx.concatenate([even, mx.array(random((2, 4), 1))])
    weights = mx.concatenate([counted, mx.zeros(2)])
    assert imbalance(Routing(padded, ones, 2), weights).item() == pytest.approx(1)


def test_imbalance_as_it_is_written() -> None:
    scores, E, K = random((5, 4), 1), 4, 2
    exact = np.exp(scores.astype(np.float64))
    probabilities = exact / exact.sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1)[:, :K]
    share = np.bincount(best.ravel(), minlength=E) / (5 * K)
    want = E * (share * probabilities.mean(axis=0)).sum()
    counted = mx.full((5,), 0.2)
    got = imbalance(Routing(mx.array(scores), mx.ones(E), K), counted)
    assert got.item() == pytest.approx(want, rel=1e-6)
