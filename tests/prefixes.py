"""Comparison of prefixes: what a canvas behind them sees, and what it makes of that."""

from typing import Any

import mlx.core as mx
from compare import assert_close

import mlx_diffgemma as dg


def assert_same_prefix(
    got: dg.Prefix, want: dg.Prefix, model: dg.Model, canvas: Any, tolerance: float
) -> None:
    """Tokens, images, the keys and values that are still visible, and the logits of a canvas."""
    assert (got.tokens, got.images) == (want.tokens, want.images)
    text = model.config.text
    for number, layer in enumerate(text.layers):
        last = min(want.length, text.sliding_window - 1) if layer.sliding else want.length
        for what in ("keys", "values"):
            a, b = (getattr(prefix, what)[number] for prefix in (got, want))
            assert min(a.shape[2], b.shape[2]) >= last
            first = (side.shape[2] - last for side in (a, b))
            a, b = (side[:, :, at:] for side, at in zip((a, b), first, strict=True))
            assert_close(a, b, tolerance, f"{what} of layer {number}")
    sides = [model.logits(model.decode(mx.array(canvas), prefix))[0] for prefix in (got, want)]
    assert_close(*sides, tolerance, "logits")
