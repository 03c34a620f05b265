"""The head for a few tokens alone, as decisions ask for it; the whole one only for its sum.

Products are float32, of the rows of the embedding as they are stored: where the model computes in
16 bits this is closer than the whole head, whose product is rounded before it is capped.
Axes: R rows, N tokens, V vocabulary, H hidden size.
"""

import mlx.core as mx

from .elementwise import logsumexp, softcap
from .products import multiply
from .tables import SLICE
from .text import Model


def label_logits(model: Model, hidden: mx.array, ids: mx.array) -> mx.array:
    """Softcapped logits [R, N] float32 of some tokens, from hidden states [R, H].

    Of a packed embedding no more than their rows are unpacked. Where Macs divide the vocabulary,
    each multiplies by the rows that it holds.
    """
    raw = model.embedding.own.sum(_raw(model, hidden, ids), "labels")
    return softcap(raw, model.config.text.final_logit_softcapping)


def log_total(model: Model, hidden: mx.array) -> mx.array:
    """log of the sum of e^logit over the vocabulary [R] float32: exact, a slice of it at a time."""
    own, parts = model.embedding.own, []
    begin, end = own.own(model.config.text.vocab_size)
    for first in range(begin, end, SLICE):
        raw = _raw(model, hidden, mx.arange(first, min(first + SLICE, end)))
        part = logsumexp(softcap(raw, model.config.text.final_logit_softcapping))
        mx.eval(part)  # before the next slice is unpacked
        parts.append(part)
    total = logsumexp(mx.stack(parts, axis=-1))
    if own.divided:
        total = logsumexp(own.share.gather(total, "labels").T)
        mx.eval(total)  # before any other message that waits
    return total


def _raw(model: Model, hidden: mx.array, ids: mx.array) -> mx.array:
    """Logits [R, N] before the softcap; 0 for ids that another Mac holds."""
    return multiply(hidden.astype(mx.float32), model.embedding.own_rows(ids, mx.float32).T)
