"""A step whose logits are divided between Macs by ids: records of slices of them go to all.

Each Mac computes the logits of its own ids. What it finds of a slice of them, a record, all others
get: argmax, entropy and the slice to draw from follow from all records, on the host in float64, and
the token from the Mac that has that slice. Nothing as wide as the vocabulary is sent.
Axes: F denoised positions, R rows of a part, N ids of this Mac, S slices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..kernels.denoise.launch import stats
from ..machine.device import in_host
from ..model.elementwise import exp
from ..model.embedding import Embedding
from ..model.vocabulary import Vocabulary
from ..share import alike
from .agreed import Seen
from .sampler import Logits, first_exceeding
from .soft import OwnPart


def own_records(logits: Logits, own: Vocabulary, in_kernels: bool) -> mx.array:
    """Records [R, S, 5] int32 of logits [R, N] of this Mac's ids.

    Of x, the processed logits: the bits of m = max x, of the sums of e^(x - m), e^(x - m) (x - m)
    and e^(T(x) - m), T the dtype of the raw logits, as denoise_stats has them; and the best id.
    """
    if in_kernels:
        seen = stats(logits)
        floats, best = seen.records, seen.best
    else:
        floats, best = _records(logits, own.unit)
    return mx.concatenate([floats.view(mx.int32), (best + own.first)[..., None]], axis=-1)


def _records(logits: Logits, unit: int) -> tuple[mx.array, mx.array]:
    x = logits.processed()
    padded = [(0, 0), (0, -x.shape[1] % unit)]
    x = mx.pad(x, padded, constant_values=-mx.inf).reshape(len(x), -1, unit)
    at = mx.argmax(x, axis=-1, keepdims=True)
    largest = mx.take_along_axis(x, at, axis=-1)
    below, rounded = x - largest, x.astype(logits.raw.dtype).astype(mx.float32) - largest
    weights = exp(below)
    moments = mx.where(weights == 0, 0.0, weights * below)  # -inf behind the last id
    sums = [each.sum(axis=-1) for each in (weights, moments, exp(rounded))]
    best = at[..., 0].astype(mx.int32) + mx.arange(x.shape[1], dtype=mx.int32) * unit
    return mx.stack([largest[..., 0], *sums], axis=-1), best


class Merged(NamedTuple):
    """What all records say: best [F] int32, entropy [F] float32 nats, the slice [F] to draw from,
    and the largest logit and the mass of rounded logits [F, 1] float32."""

    best: NDArray[np.int32]
    entropy: NDArray[np.float32]
    slices: NDArray[np.intp]
    largest: NDArray[np.float32]
    rounded: NDArray[np.float32]


def merged(records: NDArray[np.int32], uniforms: NDArray[Any]) -> Merged:
    """Merge records [F, S, 5] in float64; uniforms [F] in (0, 1). Argmax ties: the lowest id.

    The slices are the same on all Macs, whatever library has their exponentials: two that drew from
    unlike slices would make one token of two, or of none. Entropies may differ in a last bit.
    Logits that are not finite make the entropy NaN.
    """
    numbers = records[..., :4].copy().view(np.float32).astype(np.float64)
    peaks, masses, moments, rounded = np.moveaxis(numbers, -1, 0)
    top = peaks.argmax(axis=1)[:, None]
    largest = np.take_along_axis(peaks, top, axis=1)
    with np.errstate(all="ignore"):
        shares = alike.exp(peaks - largest)
        running = np.cumsum(shares * masses, axis=1)
        total = running[:, -1:]
        moment = (shares * (moments + masses * (peaks - largest))).sum(axis=1)
        entropy = np.log(total[:, 0]) - moment / total[:, 0]
        chosen = (running > uniforms[:, None] * total).argmax(axis=1)
        mass = (shares * rounded).sum(axis=1, keepdims=True)
    best = np.take_along_axis(records[..., 4], top, axis=1)[:, 0]
    narrow = [each.astype(np.float32) for each in (entropy, largest, mass)]
    return Merged(best, narrow[0], chosen, narrow[1], narrow[2])


def own_draw(logits: Logits, slices: mx.array, uniforms: mx.array, own: Vocabulary) -> mx.array:
    """Tokens [F] int32 from slices [F] of all ids, with uniforms [F]; 0 where another Mac has it.

    logits [F, N]: of this Mac's ids.
    """
    unit, count = own.unit, logits.raw.shape[1]
    ids = slices[:, None] * unit + mx.arange(unit, dtype=mx.int32) - own.first
    inside = (ids >= 0) & (ids < count)
    raw = mx.take_along_axis(logits.raw, mx.clip(ids, 0, count - 1), axis=-1)
    x = Logits(raw, logits.cap, logits.temperature).processed()
    weights = mx.where(inside, exp(x - x.max(axis=-1, keepdims=True)), 0.0)
    drawn = slices * unit + first_exceeding(weights, uniforms[:, None])[:, 0]
    return mx.where(inside[:, 0], drawn, 0).astype(mx.int32)


@dataclass(frozen=True)
class OwnRows:
    """The rows of a step, of which this Mac has the logits of its own ids.

    logits [F, N]; records [F, S, 5]: of all slices, see `own_records`.
    """

    logits: Logits
    records: mx.array
    embedding: Embedding

    @classmethod
    def of(cls, parts: Sequence[tuple[Logits, mx.array]], embedding: Embedding) -> "OwnRows":
        """The rows of parts, each with its own records, of which all Macs now get all."""
        records = mx.concatenate([records for _, records in parts])
        logits = Logits.joined([logits for logits, _ in parts])
        return cls(logits, embedding.own.gathered_slices(records, "records"), embedding)

    @property
    def arrays(self) -> list[mx.array]:
        """All that is computed before the host merges the records."""
        return [self.logits.raw, self.records]

    def seen(self, uniforms: mx.array) -> Seen:
        """The findings of all rows, drawn with uniforms [F, 2] in (0, 1), alike on all Macs.

        Argmax and entropy are those that rank 0 merged: unlike chips may round otherwise.
        """
        own = self.embedding.own
        found = merged(in_host(self.records), in_host(uniforms)[:, 0])
        slices = mx.array(found.slices.astype(np.int32))
        drawn = own_draw(self.logits, slices, uniforms[:, 1], own)
        merged_here = (mx.array(found.best), mx.array(found.entropy).view(mx.int32))
        of_rank_0 = [each if own.share.rank == 0 else mx.zeros_like(each) for each in merged_here]
        outcome = own.sum(mx.stack([*of_rank_0, drawn], axis=1), "outcome")
        best, entropy, drawn = (column[:, 0] for column in mx.split(outcome, 3, axis=1))
        part = OwnPart(
            None,
            logits=self.logits,
            largest=mx.array(found.largest),
            mass=mx.array(found.rounded),
        )
        return Seen(best, entropy.view(mx.float32), drawn, (part,))
