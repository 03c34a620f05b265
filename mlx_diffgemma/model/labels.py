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

    Of a packed embedding no more than their rows are unpacked.
    """
    rows = model.embedding.table.rows(ids, mx.float32)
    raw = multiply(hidden.astype(mx.float32), rows.T)
    return softcap(raw, model.config.text.final_logit_softcapping)


def log_total(model: Model, hidden: mx.array) -> mx.array:
    """log of the sum of e^logit over the vocabulary [R] float32: exact, a slice of it at a time."""
    parts = []
    vocab = model.config.text.vocab_size
    for first in range(0, vocab, SLICE):
        ids = mx.arange(first, min(first + SLICE, vocab))
        part = logsumexp(label_logits(model, hidden, ids))
        mx.eval(part)  # before the next slice is unpacked
        parts.append(part)
    return logsumexp(mx.stack(parts, axis=-1))
