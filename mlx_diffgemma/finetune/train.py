"""The training loop: a step after the other, each a record, with states that it goes on from.

A step's gradients are means over its examples, then over its parts and over the processes, in
float32. Nothing is random but what the step's number and the seed decide, so that a run that was
cut off goes on as if it had not been.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ..errors import FitError, NumericsError, Setting, is_out_of_memory
from ..machine.memory import peak_memory
from .objective import Batch, Losses, Objective
from .optimizer import Optimizer, averaged, clipped
from .parameters import Trained, Values
from .ranks import Ranks
from .recipe import Recipe
from .state import Keeper, State
from .watch import Watch

Loss = Callable[[Trained, Values, Batch], Losses]
"""What is minimised; see Objective."""


class BatchSource(Protocol):
    """Batches by number."""

    def batch(self, step: int, part: int = 0) -> Batch:
        """The examples of a part of step 0, 1, 2, ..., always the same."""
        ...


@dataclass(frozen=True)
class Progress:
    """A finished step: 1, 2, 3, ...

    losses are means over all parts and processes; tokens: those with a loss, of all processes.
    gradient_norm: before it is clipped. saved: the state's folder; warning: a line.
    """

    step: int
    steps: int
    loss: float
    decoder_loss: float
    encoder_loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    peak_memory_bytes: int
    valid_loss: float | None = None
    saved: Path | None = None
    warning: str | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens with a loss a second."""
        return self.tokens / self.seconds

    def to_json(self) -> dict[str, Any]:
        """The object of `finetune --json` and of metrics.jsonl."""
        return {
            "step": self.step,
            "loss": self.loss,
            "decoder_loss": self.decoder_loss,
            "encoder_loss": self.encoder_loss,
            "valid_loss": self.valid_loss,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "seconds": round(self.seconds, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
            "warning": self.warning,
        }


@dataclass
class Training:
    """A run: iterate over it for its steps.

    Leaving the iteration early saves the last finished step; its folder is free then. valid:
    batches whose loss is taken now and then, without a gradient.
    """

    trained: Trained
    state: State
    batches: BatchSource
    recipe: Recipe
    objective: Loss = field(default_factory=Objective)
    valid: Sequence[Batch] = ()
    keeper: Keeper | None = None
    ranks: Ranks = field(default_factory=Ranks)
    since_saved: list[float] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)
    saved_step: int = -1

    def __iter__(self) -> Generator[Progress]:
        try:
            while self.state.step < self.recipe.steps:
                yield self._step()
            self._finish()
        except (KeyboardInterrupt, GeneratorExit):
            self._finish()
            raise
        except (RuntimeError, MemoryError) as error:
            known = self._too_large() if is_out_of_memory(error) else self.ranks.lost(error)
            if known is None:
                raise
            self._finish()
            raise known from error
        finally:
            if self.keeper:
                self.keeper.close()

    def _step(self) -> Progress:
        began, step = time.perf_counter(), self.state.step + 1
        state, found, tokens = self._updated(step)
        self._require_finite(step, found)
        warning = self._watched(step, found["loss"])
        valid = self._validated(state)
        mx.clear_cache()  # batches have other lengths, and buffers of each would be kept
        seconds = time.perf_counter() - began
        progress = Progress(
            step=step,
            steps=self.recipe.steps,
            loss=found["loss"],
            decoder_loss=found["decoder"],
            encoder_loss=found["encoder"],
            learning_rate=self.recipe.lr * self.recipe.share(step),
            gradient_norm=found["norm"],
            tokens=tokens,
            seconds=seconds,
            peak_memory_bytes=_peak_bytes(),
            valid_loss=valid,
            warning=warning,
        )
        return self._kept(progress, state)

    def _updated(self, step: int) -> tuple[State, dict[str, float], int]:
        """The state after a step, not yet this run's, its losses and norm, and its tokens."""
        now, recipe = self.state, self.recipe
        gradients, losses, tokens = self._gradients(step)
        gradients, norm = clipped(gradients, recipe.clip)
        values, moments = Optimizer(recipe)(now.values, gradients, now.moments, step)
        average = averaged(now.average, values, recipe, step) if recipe.average else {}
        state = replace(now, step=step, values=values, moments=moments, average=average)
        state = state.with_arrays(_in_order(state.arrays))
        mx.eval(state.arrays, losses, norm)
        found = {name: _number(loss) for name, loss in losses.items()}
        return state, found | {"norm": _number(norm)}, tokens

    def _gradients(self, step: int) -> tuple[dict[str, mx.array], dict[str, mx.array], int]:
        """Gradients and losses of a step, averaged over its parts and over the processes."""
        recipe, parts = self.recipe, self.recipe.accumulate
        total: dict[str, mx.array] = {}
        tokens = 0
        for part in range(parts):
            mx.eval(total)  # of the parts before: their activations are let go
            batch = self.batches.batch(step - 1, part)
            trained = self.trained.at(recipe.seed, step, part, self.ranks.number)
            for name, array in _differentiated(self.objective, trained, self.state.values, batch):
                total[name] = total[name] + array if name in total else array
            tokens += num_tokens(batch)
        mean = self.ranks.mean({name: array / parts for name, array in total.items()})
        losses = {name: mean.pop(f"loss/{name}") for name in ("loss", "decoder", "encoder")}
        return mean, losses, tokens * self.ranks.count

    def _require_finite(self, step: int, found: dict[str, float]) -> None:
        if all(map(math.isfinite, found.values())):
            return
        name = next(name for name, number in found.items() if not math.isfinite(number))
        what = {"norm": "the gradients' norm", "loss": "the loss"}.get(name, f"the {name}'s loss")
        kept = self.keeper.last() if self.keeper else "nothing is saved"
        raise NumericsError(
            f"step {step:,}: {what} is {found[name]}, expected a finite number; {kept}; "
            "begin again with a lower ",
            *(Setting("lr"), ", or look for a wrong example in the data."),
        )

    def _too_large(self) -> FitError:
        step = self.state.step
        kept = f"step {step:,} is kept; " if self.keeper and step else ""
        return FitError(
            f"step {step + 1:,}: out of memory; {kept}take fewer examples by ",
            *(Setting("size"), ", shorter ones by ", Setting("max_length"), ", or "),
            *(Setting("grad_checkpoint"), "."),
        )

    def _watched(self, step: int, loss: float) -> str | None:
        """A warning where the loss rises, with the state to go back to."""
        said, best = self.watch(step, loss), self.state.best_step
        kept = f"; the best state is that of step {best:,}" if best else ""
        return said and f"{said}{kept}."

    def _validated(self, state: State) -> float | None:
        """The loss on `valid` with the weights for use, without dropout, where it is its turn."""
        every = self.recipe.valid_every or self.recipe.save_every
        if self.ranks.number or (state.step % every and state.step < self.recipe.steps):
            return None
        losses = [
            _number(self.objective(self.trained, state.result, batch).total) for batch in self.valid
        ]
        return sum(losses) / len(losses) if losses else None

    def _kept(self, progress: Progress, state: State) -> Progress:
        """The step counted: logged, and saved where it is its turn."""
        lowest = progress.loss if state.lowest is None else min(progress.loss, state.lowest)
        valid = state.valid if progress.valid_loss is None else progress.valid_loss
        if self.keeper:
            self.keeper.log(progress.to_json())
        self.state = replace(state, lowest=lowest, valid=valid)
        self.since_saved.append(progress.loss)
        turn = not progress.step % self.recipe.save_every or progress.step == progress.steps
        return replace(progress, saved=self._save()) if self.keeper and turn else progress

    def _save(self) -> Path:
        """Save the state, which may be the best one so far.

        Its score is the last loss on `valid`; without any, the mean loss of the steps since the
        state before.
        """
        assert self.keeper
        state = self.state
        score = state.valid if self.valid else float(np.mean(self.since_saved))
        if score is not None and (state.score is None or score < state.score):
            state = replace(state, best_step=state.step, score=score)
        place = self.keeper.save(state)
        self.state, self.saved_step, self.since_saved = state, state.step, []
        return place

    def _finish(self) -> None:
        """Save the last finished step, and put its weights in their place."""
        if self.keeper and self.state.step:
            if self.state.step != self.saved_step:
                self._save()
            self.keeper.finish(self.state)


def train(
    trained: Trained,
    values: Values,
    batches: BatchSource,
    recipe: Recipe,
    *,
    objective: Loss | None = None,
    valid: Sequence[Batch] = (),
    keeper: Keeper | None = None,
    resume: bool = False,
    overwrite: bool = False,
    ranks: Ranks | None = None,
) -> Training:
    """A run from `values`, or from the last state in the keeper's folder where it is to resume."""
    ranks = ranks or Ranks()
    start = State(
        0, values, Optimizer(recipe).begin(values), dict(values) if recipe.average else {}
    )
    mx.eval(start.arrays)
    if ranks.number:
        keeper = None
    found = keeper.open(resume=resume, overwrite=overwrite) if keeper else None
    try:
        state = _shared(found or start, ranks)
    except RuntimeError as error:
        raise ranks.lost(error) or error from error
    return Training(
        trained,
        state,
        batches,
        recipe,
        objective or Objective(),
        valid,
        keeper,
        ranks,
        saved_step=state.step,
    )


def num_tokens(batch: Batch) -> int:
    """The tokens of a batch that have a loss, the encoder's and the decoder's."""
    return int(np.count_nonzero(batch.next_weights) + np.count_nonzero(batch.canvas_weights))


def _differentiated(
    objective: Loss, trained: Trained, values: Values, batch: Batch
) -> Iterator[tuple[str, mx.array]]:
    """The gradients by name, float32, and the losses as `loss/NAME`."""

    def losses(values: Values) -> tuple[mx.array, Losses]:
        found = objective(trained, values, batch)
        return found.total, found

    (_, found), gradients = mx.value_and_grad(losses)(dict(values))
    for name, gradient in sorted(gradients.items()):
        yield name, gradient.astype(mx.float32)
    for name, loss in zip(("loss", "decoder", "encoder"), found, strict=True):
        yield f"loss/{name}", loss.astype(mx.float32)


def _in_order(arrays: Values) -> dict[str, mx.array]:
    """The arrays row after row, as a file has them.

    A gradient may come transposed, and what is computed of it too: the products of such an array
    add up in another order than those of the same numbers from a file, and the last bit differs.
    """
    return {name: mx.contiguous(array) for name, array in arrays.items()}


def _shared(state: State, ranks: Ranks) -> State:
    """The state of process 0, in all of them."""
    arrays = ranks.first(state.arrays | {"moments/step": mx.array(float(state.step))})
    step = int(_number(arrays.pop("moments/step")))
    return replace(state, step=step).with_arrays(arrays) if ranks.count > 1 else state


def _number(scalar: mx.array) -> float:
    return float(scalar.item())  # type: ignore[arg-type]  # typed as perhaps complex


def _peak_bytes() -> int:
    return max(peak_memory(), mx.get_peak_memory())
