"""A canvas whose uncertain positions are chosen, counted from one frame to the next.

A random checkpoint in bfloat16 predicts the tokens that it sees, so that a row of logits is nearly
certain, but for blank tokens: of them nothing is known, and the soft embedding of such a position
takes the product with the whole embedding.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from unittest import mock

import mlx.core as mx
import numpy as np
from checkpoint import EMBEDDING, Sizes, narrow_checkpoint, write_checkpoint
from report import progress
from round_trips import RoundTrips, counted
from simulated_gpu import STAND_INS, with_kernels

import mlx_diffgemma as dg
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.model.embedding import Embedding

SURE = 19.0  # a token's own logit, before the cap: far above all others
ADDED = 0.1  # of what the layers add: the network predicts the tokens that it sees
UPDATES = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
BLANK = 64  # first ids, whose embedding is 0: nothing is known of a position with one
PROMPT = range(BLANK, BLANK + 40)
PRODUCT_ROWS = 64  # of a product of dense rows, at most
HOTTEST, COLDEST = 0.51, 0.5  # temperatures


# --- the checkpoint and its canvases


def write_sure_checkpoint(folder: Path, sizes: Sizes) -> Path:
    """A checkpoint in bfloat16 that believes what it sees, and knows nothing of blank tokens."""
    dense, narrow = folder / "float32", folder / "bfloat16"
    dense.mkdir(parents=True)
    write_checkpoint(dense, sizes)
    narrow_checkpoint(dense, narrow, _sure)
    return narrow


def _sure(name: str, array: mx.array) -> mx.array:
    if name == EMBEDDING:
        blank = mx.arange(array.shape[0])[:, None] < BLANK
        length = mx.linalg.norm(array, axis=-1, keepdims=True)
        return mx.where(blank, 0.0, array / length * (SURE / array.shape[1] ** 0.5))
    return array * ADDED if name.endswith(UPDATES) else array


@dataclass(frozen=True)
class FixedNoise:
    """Noise with a blank token at so many positions, evenly spread, and sure ones at the others."""

    blanks: int

    def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
        return self._ids(length, vocab)

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
        return self._ids(length, vocab)

    def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
        return CounterNoise(0).uniforms(canvas, step, length)

    def _ids(self, length: int, vocab: int) -> mx.array:
        at = np.arange(length)
        blank = at * self.blanks // length != (at + 1) * self.blanks // length
        ids = np.where(blank, at % BLANK, BLANK + at % (vocab - BLANK))
        return mx.array(ids.astype(np.int32))


# --- a canvas, step by step


@dataclass(frozen=True)
class Interval:
    """All that happened until a frame was handed out, since the one before was.

    dense_rows: of the frame; waits: of the host, by place; products: the rows of each product with
    the whole embedding.
    """

    dense_rows: int
    committed: bool
    waits: Counter[str]
    products: tuple[int, ...]


def run_canvas(model: dg.Model, steps: int, noise: dg.Noise) -> list[Interval]:
    """One canvas of exactly so many steps, counted; the last interval is the commit's."""
    settings = dg.Settings(
        max_tokens=model.config.canvas_length,
        max_denoising_steps=steps,
        seed=0,
        entropy_bound=1e-9,  # no draw at a blank position is kept: each step has as many
        t_min=COLDEST,
        t_max=HOTTEST,
        stability_threshold=steps,
    )
    with with_kernels(), _products() as products, counted(STAND_INS) as trips:
        frames = dg.denoise(model, list(PROMPT), settings, noise)
        intervals = [_interval(frame, trips, products) for frame in frames]
    ran = sum(not interval.committed for interval in intervals)
    if ran != steps:
        raise SystemExit(f"the canvas took {ran} steps, expected {steps}: nothing was counted.")
    return intervals


def _interval(frame: dg.Frame, trips: RoundTrips, products: list[int]) -> Interval:
    seen = Interval(frame.dense_rows, frame.committed, trips.take(), tuple(products))
    products.clear()
    progress(f"{'commit' if frame.committed else f'step {frame.step}'}: {seen.dense_rows} rows")
    return seen


@contextmanager
def _products() -> Iterator[list[int]]:
    """The rows of each product with the whole embedding from here on, whatever computes it."""
    rows: list[int] = []

    def watched(product: Callable[..., mx.array]) -> Callable[..., mx.array]:
        def run(embedding: Embedding, weights: mx.array, *total: mx.array) -> mx.array:
            rows.append(weights.size // weights.shape[-1])
            return product(embedding, weights, *total)

        return run

    with mock.patch.multiple(Embedding, soft=watched(Embedding.soft), mix=watched(Embedding.mix)):
        yield rows


@dataclass(frozen=True)
class Waits:
    """The host's waits in each steady step without dense rows, and where those of the worst are."""

    steps: tuple[int, ...]
    places: dict[str, int]


def waits(intervals: Sequence[Interval]) -> Waits:
    """Those between two frames without dense rows; the first frame has the prompt before it."""
    pairs = pairwise(intervals)
    steady = [
        after.waits
        for before, after in pairs
        if not (before.dense_rows or after.dense_rows or after.committed)
    ]
    if not steady:
        raise SystemExit("every step has dense rows, expected some without: nothing was counted.")
    worst = max(steady, key=Counter.total)
    return Waits(tuple(each.total() for each in steady), dict(worst.most_common()))


@dataclass(frozen=True)
class DenseRows:
    """Dense rows after each step of a canvas, the products that they took, and their bound.

    products: the rows of each. bound: of PRODUCT_ROWS rows a product; what the last step would hand
    on is needed nowhere.
    """

    rows: tuple[int, ...]
    products: tuple[int, ...]
    bound: int


def dense_rows(intervals: Sequence[Interval]) -> DenseRows:
    rows = tuple(interval.dense_rows for interval in intervals if not interval.committed)
    products = tuple(count for interval in intervals for count in interval.products)
    return DenseRows(rows, products, sum(-(-count // PRODUCT_ROWS) for count in rows[:-1]))
