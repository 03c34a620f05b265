"""Both passes of the network over batches, as functions that can be differentiated.

Nothing is written in place and no cache is kept: the encoder's keys and values are results, through
which gradients of the canvases reach the encoder.
Axes: B examples, L positions, M canvases, C canvas positions, H hidden size, D head dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..checkpoint.config import ModelConfig
from ..model.attention import Visibility
from ..model.blocks import Layer
from .parameters import Ends, Trained, Values

Features = tuple[int, int, mx.array]  # an example's number, a first position, features [n, H]


class Encoded(NamedTuple):
    """hidden [B, L, H], normed; keys and values of each layer [B, kv heads, L, D]."""

    hidden: mx.array
    keys: list[mx.array]
    values: list[mx.array]


@dataclass(frozen=True)
class Passes:
    """The passes of a network made of `values`.

    checkpoint: compute the activations of a layer again for its gradient, rather than keep them.
    """

    trained: Trained
    values: Values
    checkpoint: bool = False

    def ends(self) -> Ends:
        """The parts before and behind the layers."""
        return self.trained.ends(self.values)

    def encode(self, ids: mx.array, features: Sequence[Features] = ()) -> Encoded:
        """The causal pass over ids [B, L]; padding stands behind each example.

        features: what stands in the place of images' placeholders.
        """
        ends, config = self.ends(), self.trained.config
        x = ends.embedding.lookup(ids)
        for row, first, feature in features:
            x[row, first : first + len(feature)] = feature.astype(x.dtype)
        full, sliding = _causal_masks(self, ids.shape[0], ids.shape[1], features)
        keys, values = [], []
        for number, layer in enumerate(config.text.layers):
            mask = sliding if layer.sliding else full
            x, k, v = self._run(number, lambda part, x, mask: _causal(part, x, mask), x, mask)
            keys.append(k)
            values.append(v)
        return Encoded(_normed(self, x, ends), keys, values)

    def decode(
        self, canvases: mx.array, starts: mx.array, encoded: Encoded, soft: mx.array | None
    ) -> mx.array:
        """The bidirectional pass over canvases [M, C] -> hidden [M, C, H], normed.

        M is a multiple of B: as many canvases an example, one after another. starts [M]: the
        position of each canvas; it sees the positions before, the last window - 1 on sliding
        layers. soft [M, C, H], 0 where a canvas has none.
        """
        ends, config = self.ends(), self.trained.config
        x = ends.conditioning(ends.embedding.lookup(canvases), soft)
        masks = _canvas_masks(starts, encoded.keys[0].shape[2], config)
        for number, layer in enumerate(config.text.layers):
            before = encoded.keys[number], encoded.values[number]
            x = self._run(number, _canvas, x, *before, starts, masks[layer.sliding])
        return _normed(self, x, ends)

    def _run(self, number: int, run: Callable[..., Any], *inputs: mx.array) -> Any:
        """`run` of layer `number`, whose variables are inputs too."""
        names = self.trained.names_of_layer(number)

        def whole(own: list[mx.array], *inputs: mx.array) -> Any:
            return run(self.trained.layer(number, dict(zip(names, own, strict=True))), *inputs)

        used = mx.checkpoint(whole) if self.checkpoint else whole
        return used([self.values[name] for name in names], *inputs)


def _causal(layer: Layer, x: mx.array, mask: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """x [B, L, H] -> the layer's output, its keys and its values."""
    queries, keys, values = layer.attention.project(layer.normed(x), 0)
    attended = layer.attention.core(queries, keys, values, mask)
    return _after(layer, x, attended, layer.encoder_scalar), keys, values


def _canvas(
    layer: Layer,
    x: mx.array,
    before_keys: mx.array,
    before_values: mx.array,
    starts: mx.array,
    seen: mx.array,
) -> mx.array:
    """x [M, C, H] behind keys and values [B, kv heads, L, D] -> [M, C, H]."""
    own = layer.attention.project(layer.normed(x), starts)
    attended = layer.attention.behind(*own, before_keys, before_values, seen)
    return _after(layer, x, attended, layer.decoder_scalar)


def _after(layer: Layer, x: mx.array, attended: mx.array, scalar: mx.array) -> mx.array:
    """The rest of the layer, for which all rows of the batch are one sequence.

    attended [B, heads, L, D]: what attention made of the rows.
    """
    attended = layer.attention.out(attended.swapaxes(1, 2).flatten(2))
    rows, shape = (1, -1, x.shape[-1]), x.shape
    return layer.after_attention(x.reshape(rows), attended.reshape(rows), scalar).reshape(shape)


def _normed(passes: Passes, x: mx.array, ends: Ends) -> mx.array:
    return mx.fast.rms_norm(x, ends.final_norm, passes.trained.config.text.rms_norm_eps)


def _causal_masks(
    passes: Passes, batch: int, length: int, features: Sequence[Features]
) -> tuple[mx.array, mx.array]:
    """Masks of full and of sliding layers, [L, L], or [B, 1, L, L] where there are images."""
    config = passes.trained.config
    window = config.text.sliding_window
    runs: list[list[range]] = [[] for _ in range(batch)]
    if config.bidirectional_images:
        for row, first, feature in features:
            runs[row].append(range(first, first + len(feature)))

    def mask(window: int | None) -> mx.array:
        span = range(length)
        alone = [
            Visibility(causal=True, window=window, runs=tuple(own)).dense(span, span, 0)
            for own in runs
            if any(runs) or own is runs[0]
        ]
        return alone[0] if len(alone) == 1 else mx.stack(alone)[:, None]

    return mask(None), mask(window)


def _canvas_masks(starts: mx.array, length: int, config: ModelConfig) -> dict[bool, mx.array]:
    """The positions [M, L] that canvases see on full layers (False) and on sliding ones (True)."""
    position, start = np.arange(length), np.asarray(starts)[:, None]
    masks = {}
    for sliding in (False, True):
        seen = position < start
        if sliding:
            seen &= position > start - config.text.sliding_window
        masks[sliding] = mx.array(seen)
    return masks
