"""The training objective: cross-entropy of denoised canvases and of the encoder's next tokens.

Sources: google-deepmind/gemma `sft_sudoku`, TRL `sft_diffusion_gemma.py`, NeMo AutoModel.
Axes: B examples, L positions, M canvases, C canvas positions, N rows, V vocabulary, H hidden size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..model.elementwise import softcap
from ..model.images import Placed
from .parameters import Trained, Values
from .passes import Encoded, Passes

CHUNK_BYTES = 2**26
"""Bytes of float32 logits that exist at a time."""


@dataclass(frozen=True)
class Batch:
    """Examples with the canvases that are denoised, noise included.

    ids [B, L]: prompt, response and fill, padded behind; next_weights [B, L]: the weight of each
    position's next token in the encoder's loss, whose sum is 1. clean and noisy [M, C]: canvases,
    as many of each example, one after another; starts [M]; conditioned [M]: with a soft embedding
    of a first pass; levels [M]: the share t of positions that noise replaces; canvas_weights
    [M, C]: those of the decoder's loss, whose sum is 1. images: an example's number and an image in
    it.
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


class Losses(NamedTuple):
    """Scalars; total is what is minimised."""

    total: mx.array
    decoder: mx.array
    encoder: mx.array


@dataclass(frozen=True)
class Objective:
    """leave_one_out: arXiv 2605.22765; reweighted: 1 / (1 - t), at most 100."""

    checkpoint: bool = False
    leave_one_out: bool = False
    reweighted: bool = False

    def __call__(self, trained: Trained, values: Values, batch: Batch) -> Losses:
        """The losses of a batch at `values`, to be differentiated by them."""
        passes = Passes(trained, values, self.checkpoint)
        features = [
            (row, image.span.start, trained.features(image.pixels)) for row, image in batch.images
        ]
        encoded = passes.encode(mx.array(batch.ids), features)
        soft = self._soft(passes, encoded, batch)
        hidden = passes.decode(mx.array(batch.noisy), mx.array(batch.starts), encoded, soft)
        decoder = _weighted(passes, hidden, batch.clean, batch.canvas_weights)
        encoder = _weighted(
            passes, encoded.hidden[:, :-1], batch.ids[:, 1:], batch.next_weights[:, :-1]
        )
        return Losses(decoder + encoder, decoder, encoder)

    def _soft(self, passes: Passes, encoded: Encoded, batch: Batch) -> mx.array | None:
        """Soft embeddings [M, C, H] of a first pass without gradient, 0 for the others."""
        rows = np.flatnonzero(batch.conditioned)
        if not len(rows):
            return None
        hidden = mx.stop_gradient(
            passes.decode(mx.array(batch.noisy), mx.array(batch.starts), encoded, None)
        )
        embedding = passes.ends().embedding
        cap = passes.trained.config.text.final_logit_softcapping
        soft = embedding.soft(softcap(embedding.head(hidden), cap))
        return mx.stop_gradient(soft * mx.array(batch.conditioned)[:, None, None])


def _weighted(
    passes: Passes,
    hidden: mx.array,
    targets: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> mx.array:
    """The weighted sum of the cross-entropies of hidden [.., H] at targets."""
    embedding = passes.ends().embedding
    cap = passes.trained.config.text.final_logit_softcapping
    logits = softcap(embedding.head(hidden.reshape(-1, hidden.shape[-1])), cap)
    ids = mx.array(targets.reshape(-1))
    chosen = mx.take_along_axis(logits, ids[:, None], axis=-1)[:, 0]
    losses = mx.logsumexp(logits, axis=-1) - chosen
    return (losses * mx.array(weights.reshape(-1))).sum()
