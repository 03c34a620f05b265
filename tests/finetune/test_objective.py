"""The training objective; tests/reference/test_objective.py compares it with transformers'."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Packing, Sizes, load_tensors, quantise_folder, write_checkpoint
from example_batches import Shape, random_batch
from gradients import assert_near, random

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.tensors import mlx_name
from mlx_diffgemma.finetune import objective as module
from mlx_diffgemma.finetune.lora import initial, select
from mlx_diffgemma.finetune.objective import Batch, Head, Losses, Objective
from mlx_diffgemma.finetune.parameters import Trained, TrainedAdapters, TrainedWeights
from mlx_diffgemma.finetune.passes import Passes

SIZES = Sizes("sf", 37, 32, head_dim=8, global_head_dim=16, sliding_window=4, canvas_length=4)
TABLE = "model.decoder.embed_tokens.weight"
ROUNDING = 1e-5  # of the loss, or of the largest number of a gradient
Values = Mapping[str, mx.array]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("network"), SIZES)


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[Trained, Values]:
    """All weights are variables."""
    values = {mlx_name(name): array for name, array in load_tensors(folder).items()}
    return TrainedWeights(read_config(folder), tuple(values)), values


def with_adapters(model: dg.Model, **settings: Any) -> tuple[Trained, Values]:
    """Adapters on all matrices, with a b that is not 0."""
    modules = select(model.config, ["all"])
    first = initial(model.config, modules, 2, 1)
    values = {
        name: first[name] + 0.1 * mx.array(random(first[name].shape, number))
        for number, name in enumerate(first)
    }
    return TrainedAdapters(model, modules, 2.0, **settings), values


@pytest.fixture(scope="module")
def adapters(folder: Path) -> tuple[Trained, Values]:
    return with_adapters(dg.load_model(folder))


def batch_of(seed: int = 5, **shape: Any) -> Batch:
    return random_batch(SIZES, Shape(**shape), seed)


def differentiated(
    trained: Trained, values: Values, batch: Batch, objective: Objective
) -> tuple[Losses, dict[str, mx.array]]:
    def losses(values: Values) -> tuple[mx.array, Losses]:
        found = objective(trained, values, batch)
        return found.total, found

    (_, found), gradients = mx.value_and_grad(losses)(dict(values))
    mx.eval(found, gradients)
    return found, gradients


def assert_same(a: tuple[Losses, Values], b: tuple[Losses, Values]) -> None:
    for got, want in zip(a[0], b[0], strict=True):
        assert got.item() == pytest.approx(want.item(), rel=ROUNDING)
    largest = max(mx.abs(array).max().item() for array in b[1].values())
    for name, array in b[1].items():
        away = mx.abs(a[1][name] - array).max().item()
        assert away <= ROUNDING * largest, f"{name}: {away:.3g} of {largest:.3g}"


def alone(batch: Batch, b: int) -> Batch:
    """Example b of a batch, without padding."""
    B, each = len(batch.ids), len(batch.starts) // len(batch.ids)
    assert batch.lengths is not None
    length, own = int(batch.lengths[b]), slice(b * each, (b + 1) * each)
    return Batch(
        batch.ids[b : b + 1, :length],
        B * batch.next_weights[b : b + 1, :length],
        batch.clean[own],
        batch.noisy[own],
        batch.starts[own],
        batch.conditioned[own],
        batch.levels[own],
        B * batch.canvas_weights[own],
    )


@pytest.mark.parametrize("variant", [{}, {"leave_one_out": True, "reweighted": True}])
def test_a_batch_is_the_mean_of_its_examples(
    adapters: tuple[Trained, Values], variant: dict[str, bool]
) -> None:
    """Losses and gradients: so padding is nothing, and parts and processes may be averaged."""
    trained, values = adapters
    batch, objective = batch_of(prompts=(9, 3), each=2), Objective(**variant)
    both = [differentiated(trained, values, alone(batch, b), objective) for b in (0, 1)]
    losses = Losses(*((a + b) / 2 for a, b in zip(both[0][0], both[1][0], strict=True)))
    gradients = {name: (both[0][1][name] + both[1][1][name]) / 2 for name in values}
    assert_same(differentiated(trained, values, batch, objective), (losses, gradients))


def test_the_total_is_the_sum(adapters: tuple[Trained, Values]) -> None:
    losses = Objective()(*adapters, batch_of())
    assert losses.total.item() == pytest.approx((losses.decoder + losses.encoder).item())
    assert losses.decoder.item() > 1
    assert losses.encoder.item() > 1


def test_no_next_token_is_learned(adapters: tuple[Trained, Values]) -> None:
    batch = batch_of()
    want = Objective()(*adapters, batch)
    losses = Objective()(*adapters, replace(batch, next_weights=0 * batch.next_weights))
    assert losses.encoder.item() == 0
    assert losses.total.item() == losses.decoder.item() == want.decoder.item()


# --- self-conditioning


def test_only_conditioned_canvases_have_a_first_pass(
    adapters: tuple[Trained, Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool]] = []
    decode = Passes.decode

    def noted(self: Passes, canvases: Any, starts: Any, encoded: Any, soft: Any) -> Any:
        seen.append((len(canvases), soft is not None))
        return decode(self, canvases, starts, encoded, soft)

    monkeypatch.setattr(Passes, "decode", noted)
    for share, passes in ((0.0, [(4, False)]), (0.75, [(3, False), (4, True)])):
        Objective()(*adapters, batch_of(conditioned=share))
        assert seen == passes
        seen.clear()


def test_each_canvas_is_conditioned_for_itself(adapters: tuple[Trained, Values]) -> None:
    """Mixed, a conditioned canvas has the loss it has among others; the rest that of a first step.

    A canvas without is given a soft embedding of 0, not the mean embedding that logits of 0 have.
    """
    batch = batch_of(prompts=(9, 3), each=2)
    every = batch.conditioned

    def losses(conditioned: np.ndarray, weights: np.ndarray) -> float:
        rows = np.broadcast_to(weights[:, None] / 4, batch.canvas_weights.shape)
        own = replace(batch, conditioned=conditioned, canvas_weights=rows.astype(np.float32))
        return float(Objective()(*adapters, own).decoder.item())

    first, soft = ~every * 1.0, every * 1.0
    without, with_ = losses(every & False, first), losses(every | True, soft)
    assert losses(every, first) == pytest.approx(without, rel=ROUNDING)
    assert losses(every, soft) == pytest.approx(with_, rel=ROUNDING)
    assert abs(with_ - losses(every & False, soft)) > 1e-3


def test_the_first_pass_has_no_gradient(adapters: tuple[Trained, Values]) -> None:
    """The gradient of a conditioned canvas is that of one whose soft embedding is a constant."""
    trained, values = adapters
    batch = batch_of(conditioned=1.0)
    want = differentiated(trained, values, batch, Objective())
    passes = Passes(trained, values)
    encoded = passes.encode(batch.ids)
    hidden = passes.decode(batch.noisy, batch.starts, encoded, None).hidden
    constant = Head(trained, values).soft(hidden.reshape(-1, 32)).reshape(hidden.shape)
    mx.eval(constant)

    def loss(values: Values) -> mx.array:
        passes, head = Passes(trained, values), Head(trained, values)
        encoded = passes.encode(batch.ids)
        hidden = passes.decode(batch.noisy, batch.starts, encoded, constant).hidden
        own = head.loss(hidden, batch.clean, batch.canvas_weights)
        return own + head.loss(encoded.hidden[:, :-1], batch.ids[:, 1:], batch.next_weights[:, :-1])

    assert_same((want[0], mx.grad(loss)(dict(values))), want)


# --- variants


def logits_of(adapters: tuple[Trained, Values], batch: Batch) -> np.ndarray:
    """float64 [M, C, V] of canvases without a first pass."""
    passes = Passes(*adapters)
    hidden = passes.decode(batch.noisy, batch.starts, passes.encode(batch.ids), None).hidden
    raw = np.array(passes.ends().embedding.head(hidden)).astype(np.float64)
    return 30 * np.tanh(raw / 30)


def cross_entropies(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    chosen = np.take_along_axis(logits, ids[..., None], -1)[..., 0]
    return np.log(np.exp(logits).sum(-1)) - chosen


@pytest.mark.parametrize("level", [None, 1e-3, 1.0])
def test_variants_as_they_are_written(
    adapters: tuple[Trained, Values], level: float | None
) -> None:
    """Leave-one-out: log(1 + K (1 - t) / t) at the token that stands there; weights 1 / (1 - t)."""
    batch = batch_of(conditioned=0.0)
    if level is not None:
        batch.levels[:] = level
    t, logits = batch.levels.astype(np.float64), logits_of(adapters, batch)
    K = logits.shape[-1]
    own = np.arange(K) == batch.noisy[..., None]
    left = logits + own * np.log(1 + K * (1 - t) / t)[:, None, None]
    weights = np.minimum(1 / np.maximum(1 - t, 1e-9), 100)[:, None]
    for objective, want in (
        (Objective(), cross_entropies(logits, batch.clean)),
        (Objective(leave_one_out=True), cross_entropies(left, batch.clean)),
        (Objective(reweighted=True), weights * cross_entropies(logits, batch.clean)),
        (Objective(True, True, True), weights * cross_entropies(left, batch.clean)),
    ):
        losses = objective(*adapters, batch)
        assert losses.decoder.item() == pytest.approx(want.mean(), rel=1e-4)
    _, gradients = differentiated(*adapters, batch, Objective(False, True, True))
    assert all(bool(mx.isfinite(array).all()) for array in gradients.values())


def test_balance(whole: tuple[Trained, Values]) -> None:
    """The mean imbalance of all layers in both passes; padding does not count for it."""
    trained, values = whole
    batch = batch_of()
    plain, balanced = (Objective(balance=w)(trained, values, batch) for w in (0.0, 0.5))
    uneven = (balanced.total - plain.total).item() / 0.5
    assert 1 < uneven < SIZES.num_experts / SIZES.top_k_experts
    assert balanced.decoder.item() == plain.decoder.item()
    more = np.pad(batch.ids, [(0, 0), (0, 5)], constant_values=9)
    longer = replace(batch, ids=more, next_weights=np.pad(batch.next_weights, [(0, 0), (0, 5)]))
    again = Objective(balance=0.5)(trained, values, longer)
    assert again.total.item() == pytest.approx(balanced.total.item(), rel=ROUNDING)


def test_balance_has_a_gradient(whole: tuple[Trained, Values]) -> None:
    trained, values = whole
    batch = batch_of(conditioned=0.0)
    name = "model.decoder.layers.1.router.proj.weight"
    along = mx.array(random(values[name].shape, 7))

    def total(h: mx.array) -> mx.array:
        moved = {**values, name: values[name] + h * along}
        return Objective(balance=100.0)(trained, moved, batch).total

    slope, step = mx.grad(total)(mx.array(0.0)).item(), 1e-3
    difference = (total(mx.array(step)) - total(mx.array(-step))).item() / (2 * step)
    assert slope == pytest.approx(difference, rel=2e-2)


# --- the head in chunks


@pytest.mark.parametrize("kind", ["whole", "adapters"])
def test_chunks_of_the_head(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows of logits at a time, in both losses, in the soft embedding and in gradients."""
    trained, values = request.getfixturevalue(kind)
    batch, seen = batch_of(), list[int]()
    want = differentiated(trained, values, batch, Objective())
    logits = Head._logits

    def noted(self: Head, embedding: Any, hidden: mx.array) -> mx.array:
        seen.append(hidden.shape[0])
        return logits(self, embedding, hidden)

    monkeypatch.setattr(Head, "_logits", noted)
    monkeypatch.setattr(module, "CHUNK_BYTES", 3 * 4 * SIZES.vocab_size)
    assert_same(differentiated(trained, values, batch, Objective()), want)
    assert max(seen) == 3
    rows = np.count_nonzero(batch.next_weights) + 16 + 8  # of the encoder, the decoder, first pass
    assert sum(seen) >= 2 * rows - 8


def test_the_table_learns_from_all_its_uses(whole: tuple[Trained, Values]) -> None:
    """Looked up by both passes, as the head of both losses, and in the soft embedding's mean."""
    trained, values = whole
    batch = batch_of(conditioned=0.0)
    along = mx.array(random(values[TABLE].shape, 7)) * 0.1

    def total(h: mx.array) -> mx.array:
        moved = {**values, TABLE: values[TABLE] + h * along}
        return Objective()(trained, moved, batch).total

    def difference(h: float) -> float:
        return (total(mx.array(h)) - total(mx.array(-h))).item() / (2 * h)

    slope = mx.grad(total)(mx.array(0.0)).item()
    assert slope == pytest.approx((4 * difference(5e-3) - difference(1e-2)) / 3, rel=1e-2)
    hidden = mx.array(random((6, 32), 3))

    def softened(table: mx.array) -> mx.array:
        return Head(trained, {**values, TABLE: table}).soft(hidden).sum()

    shares = np.exp(np.array(Head(trained, values)._logits(trained.embedding(values), hidden)))
    shares = (shares / shares.sum(axis=-1, keepdims=True)).sum(axis=0) * 32**0.5
    want = np.broadcast_to(shares[:, None], values[TABLE].shape)  # the shares are constants
    assert_near(mx.grad(softened)(values[TABLE]), want, ROUNDING, "gradient of the table")


# --- packed weights, and 16 bits


def test_packed_weights_may_stay_packed(folder: Path, tmp_path: Path) -> None:
    packing = Packing("affine", 4, 32)
    packed = quantise_folder(folder, tmp_path / "packed", packing, lambda module: packing)
    model, batch = dg.load_model(packed, dtype=mx.float32), batch_of()
    unpacked = differentiated(*with_adapters(model, packed=False), batch, Objective())
    trained, values = with_adapters(model, packed=True)
    assert trained.layer(0, values).attention.out.base.weight.dtype == mx.uint32  # type: ignore[union-attr]
    assert_same(differentiated(trained, values, batch, Objective(checkpoint=True)), unpacked)


@pytest.mark.parametrize("packed", [False, True], ids=["by numpy", "as stored"])
def test_16_bits(folder: Path, packed: bool) -> None:
    """Losses in float32, gradients of the adapters too; near those of float32."""
    batch = batch_of()
    want, exact = differentiated(*with_adapters(dg.load_model(folder)), batch, Objective())
    model = dg.load_model(folder, dtype=mx.bfloat16)
    losses, gradients = differentiated(
        *with_adapters(model, packed=packed), batch, Objective(checkpoint=True)
    )
    assert {loss.dtype for loss in losses} == {mx.float32}
    assert losses.total.item() == pytest.approx(want.total.item(), rel=0.02)
    largest = max(mx.abs(array).max().item() for array in exact.values())
    for name, array in gradients.items():
        assert array.dtype == mx.float32
        assert bool(mx.isfinite(array).all())
        assert mx.abs(array - exact[name]).max().item() <= 0.25 * largest, name
