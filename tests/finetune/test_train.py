"""The loop: what a step is, parts and processes, what stops a run, and a run gone on with."""

import math
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlx.core as mx
import pytest
from compare import assert_close
from facts import assert_says, raises
from training_runs import RECIPE, Targets, distance, first_values, losses, run, run_small, same

from mlx_diffgemma.errors import FitError, NumericsError, TrainingError
from mlx_diffgemma.finetune import chosen
from mlx_diffgemma.finetune.objective import Batch
from mlx_diffgemma.finetune.parameters import TrainedAdapters
from mlx_diffgemma.finetune.ranks import Ranks
from mlx_diffgemma.finetune.recipe import Recipe
from mlx_diffgemma.finetune.train import num_tokens

# --- a step


def test_a_step_says_what_it_did() -> None:
    (first, *rest) = run(recipe=replace(RECIPE, schedule="linear"))
    batch = Targets().batch(0)
    found = distance(None, first_values(), batch)  # type: ignore[arg-type]
    assert (first.step, first.steps, [each.step for each in rest]) == (1, 10, list(range(2, 11)))
    assert first.loss == pytest.approx(float(found.total))
    assert first.decoder_loss + first.encoder_loss == pytest.approx(first.loss)
    assert (first.tokens, first.learning_rate) == (num_tokens(batch), 0.1)
    assert rest[-1].learning_rate == pytest.approx(0.01)
    assert min(first.gradient_norm, first.seconds, first.peak_memory_bytes) > 0
    assert (first.to_json()["valid_loss"], first.to_json()["warning"]) == (None, None)


def test_the_loss_falls() -> None:
    still = Targets(dict.fromkeys(range(80), 0.5))
    found = losses(run(recipe=Recipe(steps=80, lr=0.1), batches=still))
    assert found[-1] < found[0] / 50


class Doubled:
    """Batches of a step's two parts in one: their levels' mean has their gradients' mean."""

    def batch(self, step: int, part: int = 0) -> Batch:
        first, second = (Targets().batch(step, each) for each in (0, 1))
        return replace(first, levels=(first.levels + second.levels) / 2)


def test_parts_of_a_step_are_averaged() -> None:
    """The gradient of a square is linear: two parts move the values as their mean does."""
    parts, whole = run(recipe=replace(RECIPE, accumulate=2)), run(batches=Doubled())
    first, second = list(parts), list(whole)
    each = [distance(None, first_values(), Targets().batch(0, part)).total for part in (0, 1)]  # type: ignore[arg-type]
    assert first[0].loss == pytest.approx(float(sum(each)) / 2)
    assert first[0].tokens == 2 * second[0].tokens
    for name, value in whole.state.values.items():
        assert_close(parts.state.values[name], value, 1e-5, name)


def test_the_average_of_the_weights_is_the_result() -> None:
    plain, mean = run(), run(recipe=replace(RECIPE, average=0.9))
    assert losses(plain) == losses(mean)
    assert same(plain.state.values, mean.state.values)
    assert plain.state.result is plain.state.values
    assert not same(mean.state.result, mean.state.values)


def test_the_loss_on_other_examples_is_taken_without_a_step() -> None:
    batch = Targets().batch(77)
    plain, other = run(), run(recipe=replace(RECIPE, valid_every=4), valid=[batch, batch])
    progress = list(other)
    assert [each.step for each in progress if each.valid_loss is not None] == [4, 8, 10]
    assert [each.loss for each in progress] == losses(plain)
    expected = distance(None, other.state.values, batch).total  # type: ignore[arg-type]
    assert progress[-1].valid_loss == pytest.approx(float(expected))


def test_the_best_state_is_that_of_the_lowest_loss_on_other_examples(tmp_path: Path) -> None:
    """Between two of those losses the last one counts, in a resumed run too."""
    recipe = replace(RECIPE, valid_every=4, save_every=1)
    batch = Targets().batch(77)
    whole = run(tmp_path / "whole", recipe, valid=[batch])
    valid = {each.step: each.valid_loss for each in whole if each.valid_loss is not None}
    cut = run(tmp_path / "cut", recipe, valid=[batch])
    with closing(iter(cut)) as steps:
        assert [next(steps).step for _ in range(6)][-1] == 6
    again = run(tmp_path / "cut", recipe, valid=[batch], resume=True)
    losses(again)
    assert whole.state.numbers == again.state.numbers
    assert valid[whole.state.best_step] == whole.state.score == min(valid.values())


# --- what stops or warns


@pytest.mark.parametrize(("level", "facts"), [(math.nan, "loss is nan"), (1e30, "loss is inf")])
def test_numbers_that_are_not_finite_end_the_run(tmp_path: Path, level: float, facts: str) -> None:
    out = tmp_path / "out"
    training = run(out, batches=Targets({7: level}))
    with raises(NumericsError, f"step 8 ... {facts} ... the state of step 6 ... lr"):
        losses(training)
    assert training.state.step == 7
    assert training.keeper
    assert training.keeper.steps() == [3, 6]


def test_a_rising_loss_is_a_warning_with_the_best_state(tmp_path: Path) -> None:
    rising = Targets({step: (0.0 if step < 55 else 5.0) for step in range(60)})
    recipe = Recipe(steps=60, lr=1e-6, warmup=0)
    warned = [each for each in run(tmp_path / "out", recipe, batches=rising) if each.warning]
    assert [each.step for each in warned] == [56]
    assert_says(warned[0].warning, "5 steps ... 50 before ... step")
    assert warned[0].to_json()["warning"] == warned[0].warning


# --- a run gone on with


def test_leaving_early_keeps_the_last_step(tmp_path: Path) -> None:
    out = tmp_path / "out"
    training = run(out)
    with closing(iter(training)) as steps:
        for progress in steps:
            if progress.step == 5:
                break
    assert training.keeper
    assert training.keeper.steps() == [3, 5]
    again = run(out, resume=True)
    assert again.state.step == 5
    assert losses(again) == losses(run())[5:]


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "muon"])
def test_a_resumed_run_is_the_undisturbed_one(tmp_path: Path, optimizer: str) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, average=0.9, accumulate=2)
    whole = run(recipe=recipe)
    expected = losses(whole)
    cut = run(tmp_path / "out", recipe)
    with closing(iter(cut)) as steps:
        assert [next(steps).loss for _ in range(7)] == expected[:7]
    assert cut.keeper
    assert cut.keeper.steps()[-2:] == [6, 7]
    again = run(tmp_path / "out", recipe, resume=True)
    assert losses(again) == expected[7:]
    assert same(again.state.arrays, whole.state.arrays)


def test_a_network_too_goes_on_to_the_bit(tmp_path: Path) -> None:
    recipe = Recipe(steps=3, lr=1e-2, save_every=1)
    whole = run_small(tmp_path / "whole", recipe)
    expected = losses(whole)
    cut = run_small(tmp_path / "cut", recipe)
    with closing(iter(cut)) as steps:
        found = [next(steps).loss]
    again = run_small(tmp_path / "cut", recipe, resume=True)
    assert [*found, *losses(again)] == expected
    assert same(again.state.arrays, whole.state.arrays)
    assert (tmp_path / "cut" / "adapters.safetensors").read_bytes() == (
        tmp_path / "whole" / "adapters.safetensors"
    ).read_bytes()


def test_the_form_for_a_gpu_trains_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the loop needs numpy: MLX's operations alone take the same steps."""
    recipe = Recipe(steps=2, lr=1e-2, optimizer="muon")
    expected = losses(run_small(tmp_path / "host", recipe))
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_diffgemma.") and hasattr(module, "on_gpu"):
            monkeypatch.setattr(module, "on_gpu", lambda: True)
    monkeypatch.setattr(chosen, "TrainedAdapters", partial(TrainedAdapters, packed=True))
    found = losses(run_small(tmp_path / "gpu", recipe))
    assert found != expected
    assert found == pytest.approx(expected, abs=1e-4)


# --- several processes


class Two(Ranks):
    """Two processes in one, the other of which has what this one has."""

    count = property(lambda self: 2)  # type: ignore[assignment]
    number = property(lambda self: 0)  # type: ignore[assignment]

    def _sum(self, arrays: dict[str, mx.array]) -> dict[str, mx.array]:  # type: ignore[override]
        return {name: 2 * array for name, array in arrays.items()}


def test_gradients_are_averaged_over_processes() -> None:
    alone, two = run(), run()
    two.ranks = Two()
    progress = list(two)
    assert [each.loss for each in progress] == pytest.approx(losses(alone))
    assert progress[0].tokens == 2 * num_tokens(Targets().batch(0))


def test_a_lost_process_is_no_bug() -> None:
    class Lost(Two):
        def _sum(self, arrays: object) -> dict[str, mx.array]:
            raise RuntimeError("[ring] connection to a peer was lost")

    training = run()
    training.ranks = Lost()
    with raises(TrainingError, "process 0 ... connection ... lost ... --resume"):
        losses(training)
    training.ranks = Ranks()
    assert training.ranks.lost(RuntimeError("a bug")) is None


@pytest.mark.parametrize("ranks", [Ranks(), Two()])
def test_too_little_memory_keeps_the_step_before(tmp_path: Path, ranks: Ranks) -> None:
    class Large(Targets):
        def batch(self, step: int, part: int = 0) -> Batch:
            if step == 4:
                raise RuntimeError("[malloc] Unable to allocate 3 bytes")
            return super().batch(step, part)

    training = run(tmp_path / "out", batches=Large())
    training.ranks = ranks
    with raises(FitError, "step 5 ... out of memory; step 4 is kept ... size ... grad_checkpoint"):
        losses(training)
    assert run(tmp_path / "out", resume=True).state.step == 4
