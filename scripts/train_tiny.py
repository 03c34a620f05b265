#!/usr/bin/env python3
"""Make the weights of an embedded checkpoint again: scripts/train_tiny.py tiny-chat OUT

Trains tiny-chat or tiny-sudoku from random numbers with the package's own trainer, on texts and
puzzles that are generated as they are needed; all of it follows from --seed. OUT gets a Hugging
Face folder, float32, and the states that --resume goes on from. scripts/make_tiny_chat.py and
scripts/make_tiny_sudoku.py pack such a folder. tiny-sudoku's vision tower is not trained here:
that of the embedded checkpoint is copied, and reads digits by the embeddings that it was made for.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import mlx.core as mx
import numpy as np
import sudoku_puzzles as sudoku
from tiny_chat import training as chat

from mlx_diffgemma.assets.sudoku import rows_of
from mlx_diffgemma.checkpoint.config import ModelConfig, read_config
from mlx_diffgemma.checkpoint.hub import find_model
from mlx_diffgemma.checkpoint.layout import text_shapes
from mlx_diffgemma.errors import DiffGemmaError
from mlx_diffgemma.finetune.data.batches import Batches
from mlx_diffgemma.finetune.data.examples import Example, eos_of
from mlx_diffgemma.finetune.objective import Batch, Objective
from mlx_diffgemma.finetune.parameters import TrainedWeights
from mlx_diffgemma.finetune.ranks import Ranks, launched
from mlx_diffgemma.finetune.recipe import Recipe
from mlx_diffgemma.finetune.state import Keeper
from mlx_diffgemma.finetune.train import Progress, Training, train
from mlx_diffgemma.finetune.whole import write_checkpoint
from mlx_diffgemma.text.chat import Message, render_prompt
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

WINDOW = 32  # steps whose examples are made at once, and grouped by length
BALANCE = 0.01  # weight of the experts' imbalance

Maker = Callable[[random.Random], Example]


@dataclass(frozen=True)
class Kind:
    """How one of the checkpoints is trained: canvases in all, and a step's examples.

    encoder: whether the encoder learns its next tokens; a puzzle's clues cannot be foreseen.
    """

    canvases: int
    size: int
    each: int
    average: float
    encoder: bool
    maker: Callable[[Tokenizer, ModelConfig, int], Maker]


@dataclass
class Lessons:
    """Batches of examples that are made when they are needed, by seed, step and process."""

    make: Maker
    config: ModelConfig
    kind: Kind
    seed: int
    ranks: Ranks

    def __post_init__(self) -> None:
        self.window = lru_cache(maxsize=1)(self._window)

    def batch(self, step: int, part: int = 0) -> Batch:
        """The examples of a step, 0, 1, 2, ..., and their noise."""
        number, place = divmod(step, WINDOW)
        batch = self.window(number).batch(place)
        if self.kind.encoder:
            return batch
        return replace(batch, next_weights=np.zeros_like(batch.next_weights))

    def _window(self, number: int) -> Batches:
        name = f"{self.seed}/{number}/{self.ranks.number}"
        rng = random.Random(name)
        examples = [self.make(rng) for _ in range(WINDOW * self.kind.size)]
        return Batches(
            examples,
            self.kind.size,
            config=self.config,
            seed=rng.getrandbits(48),
            canvases=self.kind.each,
            stratified=True,
            grouped=True,
        )


def chat_maker(tokenizer: Tokenizer, config: ModelConfig, seed: int) -> Maker:
    """Conversations of all skills of tiny-chat."""

    def make(rng: random.Random) -> Example:
        return chat.to_ids(chat.lesson(rng, config.canvas_length), tokenizer, config)

    return make


PUZZLES = 20_000  # each comes in many forms
CLUES = 24, 60


def sudoku_maker(tokenizer: Tokenizer, config: ModelConfig, seed: int) -> Maker:
    """Puzzles under a symmetry, with more clues than they need."""
    fill = [eos_of(tokenizer, config)]

    def make(rng: random.Random) -> Example:
        made = sudoku.puzzle(seed, rng.randrange(PUZZLES))
        clues, solution = sudoku.varied(rng, *made)
        clues = sudoku.revealed(rng, clues, solution, rng.randint(*CLUES))
        asked, solved = ("".join(map(str, grid)) for grid in (clues, solution))
        prompt = render_prompt(tokenizer, [Message("user", rows_of(asked))]).ids
        ids = [*prompt, *tokenizer.encode(rows_of(solved)), *fill]
        return Example(np.array(ids, np.int32), len(prompt))

    return make


KINDS = {
    "tiny-chat": Kind(1_651_600, 12, 4, 0.998, True, chat_maker),
    "tiny-sudoku": Kind(447_000, 24, 4, 0.998, False, sudoku_maker),
}


def initial(config: ModelConfig, seed: int) -> dict[str, mx.array]:
    """First values by name: matrices with deviation 1 / sqrt(inputs), vectors constant.

    Attention has the scale 1: with norms of 1 it would begin saturated.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in text_shapes(config.text).items():
        if len(shape) > 1:
            numbers = rng.normal(0, shape[-1] ** -0.5, shape)
        else:
            numbers = np.full(shape, _constant(name, shape[0]))
        values[name] = mx.array(numbers.astype(np.float32))
    return values


def _constant(name: str, size: int) -> float:
    """The first value of a vector."""
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return float(1.2 * size**-0.25)
    return 0.5 if ".post_" in name else 1.0


def recipe_of(kind: Kind, canvases: int, seed: int, save_every: int, ranks: int) -> Recipe:
    """Muon for the matrices and Adam for the rest, with a linear decay at the end."""
    steps = max(1, canvases // (kind.size * kind.each * ranks))
    return Recipe(
        steps=steps,
        lr=3e-3,
        warmup=min(60, steps),
        schedule="linear",
        falling=0.4,
        optimizer="muon",
        betas=(0.9, 0.95),
        eps=1e-10,
        weight_decay=0.05,
        clip=0.0,
        matrix_lr=0.02,
        average=kind.average,
        save_every=save_every,
        seed=seed,
    )


def training_of(arguments: argparse.Namespace) -> Training:
    """The run that the arguments ask for."""
    kind = KINDS[arguments.model]
    kind = replace(kind, size=arguments.size or kind.size, each=arguments.each or kind.each)
    source = find_model(arguments.model).folder
    config, tokenizer, ranks = read_config(source), load_tokenizer(source), launched()
    seed, canvases = arguments.seed, arguments.canvases or kind.canvases
    recipe = recipe_of(kind, canvases, seed, arguments.save_every, ranks.count)
    values = initial(config, seed)
    keeper = Keeper(
        arguments.out,
        {"model": arguments.model, "size": kind.size, "each": kind.each, **asdict(recipe)},
        lambda folder, found: write_checkpoint(source, folder, found),
    )
    return train(
        TrainedWeights(config, tuple(values)),
        values,
        Lessons(kind.maker(tokenizer, config, seed), config, kind, seed, ranks),
        recipe,
        objective=Objective(balance=BALANCE),
        keeper=keeper,
        resume=arguments.resume,
        ranks=ranks,
    )


def report(steps: Sequence[Progress], canvases: int, began: float) -> str:
    """One line about the last steps: losses, time, and canvases a second."""
    last = steps[-1]
    decoder, encoder = (
        float(np.mean([getattr(step, f"{name}_loss") for step in steps]))
        for name in ("decoder", "encoder")
    )
    seconds = sum(step.seconds for step in steps)
    return (
        f"{(time.time() - began) / 60:.1f} min  step {last.step:,} of {last.steps:,}  "
        f"{last.step * canvases:,} canvases  decoder {decoder:.4f}  encoder {encoder:.4f}  "
        f"norm {last.gradient_norm:.2f}  {len(steps) * canvases / seconds:.1f} canvases/s  "
        f"{time.process_time() / 60:.1f} min of CPU"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, with a line about every few steps."""
    training = training_of(arguments)
    lessons, began, recent = training.batches, time.time(), list[Progress]()
    assert isinstance(lessons, Lessons)
    canvases = lessons.kind.size * lessons.kind.each * lessons.ranks.count
    for progress in training:
        recent.append(progress)
        if progress.step % arguments.log_every == 0 or progress.step == progress.steps:
            if not lessons.ranks.number:
                print(report(recent, canvases, began), flush=True)
            recent.clear()
    if training.keeper:
        training.keeper.close()


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", choices=KINDS)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the run")
    parser.add_argument("--canvases", type=int, help="to train on in all [as the embedded one]")
    parser.add_argument("--size", type=int, help="examples a step and process [12 or 24]")
    parser.add_argument("--each", type=int, help="noisy canvases an example [4]")
    parser.add_argument("--seed", type=int, default=0, help="of data, noise, first values [0]")
    parser.add_argument("--save-every", type=int, default=200, help="steps [200]")
    parser.add_argument("--log-every", type=int, default=5, help="steps [5]")
    parser.add_argument("--resume", action="store_true", help="go on from OUT's last state")
    return parser.parse_args(argv)


def main() -> int:
    try:
        run(parsed())
    except (DiffGemmaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
