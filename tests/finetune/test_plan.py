"""The plan of a training step: its parts by shape, and a step of a small network beside it."""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from facts import raises
from held import peak_of

from mlx_diffgemma import load_model
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.errors import FitError
from mlx_diffgemma.finetune.lora import initial, variables
from mlx_diffgemma.finetune.objective import Batch, Objective
from mlx_diffgemma.finetune.parameters import TrainedAdapters
from mlx_diffgemma.finetune.plan import Load, Plan, load_of, plan
from mlx_diffgemma.machine.chips import find_chip

SIZES = Sizes(
    "sf", vocab_size=256, hidden_size=128, head_dim=32, global_head_dim=64,
    intermediate_size=128, num_experts=8, moe_intermediate_size=64, sliding_window=64,
    canvas_length=32,
)  # fmt: skip
CHIP = find_chip("M4 Max", 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("small"), SIZES)


def planned(folder: Path, **given: object) -> Plan:
    return plan(folder, load_of(read_config(folder), **given), available=10**9, chip=CHIP)


def test_variables_gradients_and_moments_are_what_is_trained(folder: Path) -> None:
    one = planned(folder, batch=1, length=64)
    assert one.load.modules is not None
    shapes = variables(read_config(folder), one.load.modules, 8)
    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    assert one.trained == numbers
    names = ("variables", "gradients", "moments")
    assert [one.parts[name] for name in names] == [4 * numbers, 4 * numbers, 8 * numbers]
    more = planned(folder, batch=1, length=64, accumulate=2, average=True, optimizer="muon")
    assert [more.parts[name] for name in names] == [8 * numbers, 8 * numbers, 4 * numbers]
    assert planned(folder, batch=1, length=64, rank=16).trained == 2 * numbers


def test_all_weights_are_float32_variables(folder: Path) -> None:
    numbers = sum(array.size for array in mx.load(str(folder / "model.safetensors")).values())
    whole = plan(folder, Load(batch=1, length=64), available=None, chip=CHIP)
    assert whole.trained == numbers
    assert whole.flops > planned(folder, batch=1, length=64).flops


def test_activations_grow_with_rows_and_shrink_with_checkpointing(folder: Path) -> None:
    one, two = (planned(folder, batch=n, length=64) for n in (1, 2))
    for name in ("kept of the encoder", "kept of the decoder"):
        assert two.parts[name] == pytest.approx(2 * one.parts[name], rel=1e-6)
    noisy = planned(folder, batch=1, length=64, canvases=2)
    assert noisy.parts["kept of the encoder"] == one.parts["kept of the encoder"]
    assert noisy.parts["kept of the decoder"] == two.parts["kept of the decoder"]
    again = planned(folder, batch=1, length=64, checkpoint=True)
    assert again.needed_bytes < one.needed_bytes
    assert again.flops > one.flops
    assert again.seconds is not None
    assert one.seconds is not None
    assert again.seconds > one.seconds


def test_only_the_largest_of_those_that_take_turns_counts(folder: Path) -> None:
    one = planned(folder, batch=1, length=64)
    assert one.needed_bytes == sum(one.parts.values()) + max(one.instead.values())


def test_room_is_required_before_anything_is_loaded(folder: Path) -> None:
    modules = load_of(read_config(folder)).modules
    small = plan(folder, Load(4, 512, modules=modules), available=10**6, chip=CHIP)
    assert small.fits is False
    with raises(FitError, "MB ... 1.0 MB ... grad_checkpoint ... --force"):
        small.require_room()
    planned(folder, batch=1, length=64).require_room()


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("length", [64, 128])
def test_a_step_takes_what_is_planned(
    length: int, checkpoint: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where MLX's peak counts all there is; evaluated here by its CPU."""
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_diffgemma.") and hasattr(module, "on_gpu"):
            monkeypatch.setattr(module, "on_gpu", lambda: True)
    mx.disable_compile()
    try:
        expected = planned(folder, batch=2, length=length, checkpoint=checkpoint)
        model = load_model(folder)
        measured = peak_of(lambda: one_step(model, expected.load))
    finally:
        mx.enable_compile()
    beside = expected.needed_bytes - expected.parts["weights"] - expected.parts["moments"]
    assert measured == pytest.approx(beside, rel=0.15)


def one_step(model: object, load: Load) -> None:
    """Losses and gradients of a batch of random tokens."""
    assert load.modules is not None
    trained = TrainedAdapters(model, load.modules, 2.0, packed=True)  # type: ignore[arg-type]
    (B, L), C = (load.batch, load.length), trained.config.canvas_length
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, (B, L)).astype(np.int32)
    batch = Batch(
        ids=ids,
        next_weights=np.pad(np.full((B, L - 1), 1 / (B * (L - 1)), np.float32), [(0, 0), (0, 1)]),
        clean=ids[:, -C:],
        noisy=rng.integers(0, 256, (B, C)).astype(np.int32),
        starts=np.full(B, L - C, np.int32),
        conditioned=np.ones(B, bool),
        levels=np.full(B, 0.5, np.float32),
        canvas_weights=np.full((B, C), 1 / (B * C), np.float32),
    )
    objective = Objective(checkpoint=load.checkpoint)
    values = initial(trained.config, load.modules, load.rank, 0)
    losses, found = mx.value_and_grad(lambda v: objective(trained, v, batch).total)(values)
    mx.eval(losses, found)
