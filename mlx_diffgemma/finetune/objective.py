"""The training objective: cross-entropy of denoised canvases and of the encoder's next tokens.

Sources: google-deepmind/gemma `sft_sudoku`, TRL `sft_diffusion_gemma.py`, NeMo AutoModel.
Axes: B examples, L positions, M canvases, C canvas positions, N rows, V vocabulary, H hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..model.elementwise import logsumexp, softcap
from ..model.embedding import Embedding
from ..model.images import Placed
from .parameters import Trained, Values
from .passes import Encoded, Passes
from .recomputed import by_chunks, detached

CHUNK_BYTES = 2**26
"""Bytes of float32 logits [n, V] of one chunk of rows; a few such arrays exist at a time."""

MOST_WEIGHT = 100.0
"""The largest weight of the reweighted loss, at noise levels above 0.99."""


@dataclass(frozen=True)
class Batch:
    """Examples with the canvases that are denoised, noise included.

    ids [B, L]: prompt, response and fill, padded behind; next_weights [B, L]: the weight of each
    position's next token in the encoder's loss, whose sum is 1. clean and noisy [M, C]: canvases,
    as many of each example, one after another; starts [M]; conditioned [M]: with a soft embedding
    of a first pass; levels [M]: the share t of positions that noise replaces; canvas_weights
    [M, C]: those of the decoder's loss, whose sum is 1. images: an example's number and an image in
    it. lengths [B]: those of the examples without padding, None where there is none.
    """

    ids: NDArray[np.int32]
    next_weights: NDArray[np.float32]
    clean: NDArray[np.int32]
    noisy: NDArray[np.int32]
    starts: NDArray[np.int32]
    conditioned: NDArray[np.bool_]
    levels: NDArray[np.float32]
    canvas_weights: NDArray[np.float32]
    images: tuple[tuple[int, Placed], ...] = ()
    lengths: NDArray[np.int32] | None = None


class Losses(NamedTuple):
    """Scalars, float32; total is what is minimised."""

    total: mx.array
    decoder: mx.array
    encoder: mx.array


@dataclass(frozen=True)
class Objective:
    """The published objective, and what may be changed of it.

    checkpoint: compute a layer's activations again for its gradient. leave_one_out: a position's
    own token counts for the noise that it may be (arXiv 2605.22765). reweighted: a canvas counts
    1 / (1 - t), at most MOST_WEIGHT. balance: the weight of the experts' mean imbalance in the
    total, which is no mean over examples; see `passes.imbalance`.
    """

    checkpoint: bool = False
    leave_one_out: bool = False
    reweighted: bool = False
    balance: float = 0.0

    def __call__(self, trained: Trained, values: Values, batch: Batch) -> Losses:
        """The losses of a batch at `values`, to be differentiated by them."""
        passes = Passes(trained, values, self.checkpoint, bool(self.balance))
        features = [
            (row, image.span.start, mx.stop_gradient(trained.features(image.pixels)))
            for row, image in batch.images
        ]
        encoded = passes.encode(batch.ids, features, batch.lengths)
        soft = _soft(trained, values, encoded, batch)
        decoded = passes.decode(batch.noisy, batch.starts, encoded, soft)
        head = Head(trained, values)
        decoder = head.loss(
            decoded.hidden, batch.clean, self._canvas_weights(batch), self._observed(trained, batch)
        )
        encoder = head.loss(encoded.hidden[:, :-1], batch.ids[:, 1:], batch.next_weights[:, :-1])
        uneven = (encoded.imbalance + decoded.imbalance) / (2 * len(encoded.keys))
        total = decoder + encoder
        return Losses(total + self.balance * uneven if self.balance else total, decoder, encoder)

    def _canvas_weights(self, batch: Batch) -> NDArray[np.float32]:
        if not self.reweighted:
            return batch.canvas_weights
        weights = 1 / np.maximum(1 - batch.levels.astype(np.float64), 1 / MOST_WEIGHT)
        return batch.canvas_weights * weights.astype(np.float32)[:, None]

    def _observed(self, trained: Trained, batch: Batch) -> "Observed | None":
        if not self.leave_one_out:
            return None
        levels = batch.levels.astype(np.float64)[:, None]
        odds = np.broadcast_to((1 - levels) / levels, batch.noisy.shape)
        return Observed(batch.noisy, odds * trained.config.text.vocab_size)


class Observed(NamedTuple):
    """ids [..]: the tokens that positions hold; odds [..]: V (1 - t) / t, that it is no noise."""

    ids: NDArray[np.int32]
    odds: NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """Logits of many rows, of a few at a time, in the gradient too."""

    trained: Trained
    values: Values

    def loss(
        self,
        hidden: mx.array,
        targets: NDArray[np.int32],
        weights: NDArray[np.float32],
        observed: Observed | None = None,
    ) -> mx.array:
        """The weighted sum of the cross-entropies of hidden [.., H] at targets [..]."""
        rows = np.flatnonzero(weights)
        if not len(rows):
            return mx.zeros(())
        hidden = hidden.reshape(-1, hidden.shape[-1])
        if len(rows) < len(hidden):
            hidden = hidden[mx.array(rows)]
        fixed = [mx.array(targets.reshape(-1)[rows])]
        if observed is not None:
            odds = observed.odds.reshape(-1)[rows]
            logs = np.log(np.maximum(odds, np.finfo(np.float32).tiny)), np.log1p(odds)
            ids = mx.array(observed.ids.reshape(-1)[rows])
            fixed += [ids, *(mx.array(log.astype(np.float32)) for log in logs)]
        losses = self._by_chunks(self._cross_entropies, hidden, fixed)
        return (losses * mx.array(weights.reshape(-1)[rows])).sum()

    def soft(self, hidden: mx.array) -> mx.array:
        """Soft embeddings [N, H] of hidden [N, H], a constant; the table is a variable."""
        return self._by_chunks(self._soft_embeddings, mx.stop_gradient(hidden), [])

    def _by_chunks(
        self, function: Callable[..., mx.array], hidden: mx.array, fixed: list[mx.array]
    ) -> mx.array:
        text = self.trained.config.text
        names = self.trained.names_of_embedding()
        own = [self.values[name] for name in names]
        size = max(1, CHUNK_BYTES // (4 * text.vocab_size))
        return by_chunks(function, own, hidden, fixed, size)

    def _embedding(self, own: Sequence[mx.array]) -> Embedding:
        names = self.trained.names_of_embedding()
        return self.trained.embedding(dict(zip(names, own, strict=True)))

    def _logits(self, embedding: Embedding, hidden: mx.array) -> mx.array:
        """hidden [n, H] -> softcapped logits [n, V], float32."""
        return softcap(embedding.head(hidden), self.trained.config.text.final_logit_softcapping)

    def _soft_embeddings(self, *arrays: mx.array) -> mx.array:
        embedding = self._embedding(arrays[:-1])
        return embedding.soft(mx.stop_gradient(self._logits(embedding, arrays[-1])))

    def _cross_entropies(self, *arrays: mx.array) -> mx.array:
        """The table, hidden [n, H], targets [n], and, with an observed token, what it adds -> [n].

        log(1 + odds) is added to its logit, so that odds times its mass are added to the row's.
        """
        count = len(self.trained.names_of_embedding())
        embedding, (hidden, targets, *observed) = self._embedding(arrays[:count]), arrays[count:]
        logits = self._logits(embedding, hidden)
        mass, chosen = logsumexp(logits), _at(logits, targets)
        if observed:
            ids, log_odds, added = observed
            mass = mx.logaddexp(mass, _at(logits, ids) + log_odds)
            chosen = chosen + mx.where(ids == targets, added, 0.0)
        return mass - chosen


def _at(logits: mx.array, ids: mx.array) -> mx.array:
    """The logit [n] of each row's id."""
    return mx.take_along_axis(logits, ids[:, None], axis=-1)[:, 0]


def _soft(trained: Trained, values: Values, encoded: Encoded, batch: Batch) -> mx.array | None:
    """Soft embeddings [M, C, H] of a first pass without gradient, 0 for the other canvases.

    What a canvas believed is a constant; its mean embedding is not, where the table is a variable.
    """
    rows = np.flatnonzero(batch.conditioned)
    if not len(rows):
        return None
    (M, C), B = batch.noisy.shape, batch.ids.shape[0]
    fixed = Passes(trained, {name: mx.stop_gradient(value) for name, value in values.items()})
    own = encoded.of_canvases(rows // (M // B))
    hidden = detached(fixed.decode(batch.noisy[rows], batch.starts[rows], own, None).hidden)
    soft = Head(trained, values).soft(hidden.reshape(-1, hidden.shape[-1])).reshape(hidden.shape)
    if len(rows) == M:
        return soft
    return mx.zeros((M, C, soft.shape[-1]), soft.dtype).at[mx.array(rows)].add(soft)
