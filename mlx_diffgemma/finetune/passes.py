"""Both passes of the network over batches, as functions that can be differentiated.

Nothing is written in place and no cache is kept: the encoder's keys and values are results, through
which gradients of the canvases reach the encoder.
Axes: B examples, L positions, M canvases, C canvas positions, H hidden size, D head dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig
from ..model.attention import Visibility
from ..model.blocks import Layer
from ..model.experts import Router, Routing, route
from .parameters import Ends, Trained, Values
from .recomputed import recomputed

Features = tuple[int, int, mx.array]  # an example's number, a first position, features [n, H]


class Encoded(NamedTuple):
    """hidden [B, L, H], normed; keys and values of each layer [B, kv heads, L, D].

    imbalance: of the experts, the sum over the layers; see `imbalance`.
    """

    hidden: mx.array
    keys: list[mx.array]
    values: list[mx.array]
    imbalance: mx.array

    def of_canvases(self, examples: NDArray[np.int64]) -> "Encoded":
        """Keys and values as constants, those of an example for each canvas: examples [M]."""
        own = mx.array(examples)
        keys, values = (
            [mx.stop_gradient(array)[own] for array in part] for part in (self.keys, self.values)
        )
        return Encoded(self.hidden, keys, values, self.imbalance)


class Decoded(NamedTuple):
    """hidden [M, C, H], normed; imbalance as in `Encoded`."""

    hidden: mx.array
    imbalance: mx.array


@dataclass(frozen=True)
class Passes:
    """The passes of a network made of `values`.

    checkpoint: compute the activations of a layer again for its gradient, rather than keep them.
    balance: measure how unevenly the experts are used.
    """

    trained: Trained
    values: Values
    checkpoint: bool = False
    balance: bool = False

    def ends(self) -> Ends:
        """The parts before and behind the layers."""
        return self.trained.ends(self.values)

    def encode(
        self,
        ids: NDArray[np.int32],
        features: Sequence[Features] = (),
        lengths: NDArray[np.int32] | None = None,
    ) -> Encoded:
        """The causal pass over ids [B, L]; padding stands behind each example.

        features: what stands in the place of images' placeholders. lengths [B]: those of the
        examples without padding, which only the imbalance asks for; None for no padding.
        """
        ends, config = self.ends(), self.trained.config
        x = ends.embedding.lookup(mx.array(ids))
        for row, first, feature in features:
            x[row, first : first + len(feature)] = feature.astype(x.dtype)
        full, sliding = _causal_masks(self, ids.shape[0], ids.shape[1], features)
        counted = _counted(ids.shape, lengths)
        keys, values, uneven = [], [], mx.zeros(())
        for number, layer in enumerate(config.text.layers):
            mask = sliding if layer.sliding else full
            x, own, k, v = self._run(number, _causal, (x,), (mask, counted))
            keys.append(k)
            values.append(v)
            uneven = uneven + own
        return Encoded(_normed(self, x, ends), keys, values, uneven)

    def decode(
        self,
        canvases: NDArray[np.int32],
        starts: NDArray[np.int32],
        encoded: Encoded,
        soft: mx.array | None,
    ) -> Decoded:
        """The bidirectional pass over canvases [M, C].

        M is a multiple of B: as many canvases an example, one after another. starts [M]: the
        position of each canvas; it sees the positions before, the last window - 1 on sliding
        layers. soft [M, C, H], 0 where a canvas has none.
        """
        ends, config = self.ends(), self.trained.config
        x = ends.conditioning(ends.embedding.lookup(mx.array(canvases)), soft)
        masks = _canvas_masks(starts, encoded.keys[0].shape[2], config)
        counted, offsets = _counted(canvases.shape, None), mx.array(starts)
        uneven = mx.zeros(())
        for number, layer in enumerate(config.text.layers):
            before = encoded.keys[number], encoded.values[number]
            fixed = masks[layer.sliding], counted, offsets
            x, own = self._run(number, _canvas, (x, *before), fixed)
            uneven = uneven + own
        return Decoded(_normed(self, x, ends), uneven)

    def _run(
        self,
        number: int,
        run: Callable[..., tuple[mx.array, ...]],
        inputs: Sequence[mx.array],
        fixed: Sequence[mx.array],
    ) -> tuple[mx.array, ...]:
        """`run` of layer `number`, whose variables are inputs too."""
        names = self.trained.names_of_layer(number)

        def whole(*arrays: mx.array) -> tuple[mx.array, ...]:
            own = dict(zip(names, arrays[: len(names)], strict=True))
            return run(self._layer(number, own), *arrays[len(names) :])

        arrays = [*(self.values[name] for name in names), *inputs]
        return recomputed(whole, arrays, fixed) if self.checkpoint else whole(*arrays, *fixed)

    def _layer(self, number: int, own: Values) -> Layer:
        layer = self.trained.layer(number, own)
        if not self.balance:
            return layer
        after = layer.after_attention
        return replace(layer, after_attention=replace(after, router=NotedRouter(after.router)))


class NotedRouter(Router):
    """A router that keeps what it said last."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.last: Routing | None = None

    def __call__(self, x: mx.array) -> Routing:
        """See `Router`."""
        self.last = self.router(x)
        return self.last


def imbalance(routing: Routing, counted: mx.array) -> mx.array:
    """E * sum over experts of the share of choices times the mean probability; 1 for even use.

    counted [N]: weights of the rows, whose sum is 1. Its gradient comes through the probabilities
    alone. Source: Switch Transformers, arXiv 2101.03961, equation 4.
    """
    experts, _ = route(routing)
    E = routing.scores.shape[-1]
    probabilities = mx.softmax(routing.scores.astype(mx.float32), axis=-1)
    chosen = (experts[..., None] == mx.arange(E)).sum(axis=1) / routing.top_k
    return E * ((counted @ chosen) * (counted @ probabilities)).sum()


def _causal(layer: Layer, x: mx.array, mask: mx.array, counted: mx.array) -> tuple[mx.array, ...]:
    """x [B, L, H] -> the layer's output, its imbalance, its keys and its values."""
    queries, keys, values = layer.attention.project(layer.normed(x), 0)
    attended = layer.attention.core(queries, keys, values, mask)
    return *_after(layer, x, attended, layer.encoder_scalar, counted), keys, values


def _canvas(
    layer: Layer,
    x: mx.array,
    before_keys: mx.array,
    before_values: mx.array,
    seen: mx.array,
    counted: mx.array,
    starts: mx.array,
) -> tuple[mx.array, ...]:
    """x [M, C, H] behind keys and values [B, kv heads, L, D] -> [M, C, H] and the imbalance."""
    own = layer.attention.project(layer.normed(x), starts)
    attended = layer.attention.behind(*own, before_keys, before_values, seen)
    return _after(layer, x, attended, layer.decoder_scalar, counted)


def _after(
    layer: Layer, x: mx.array, attended: mx.array, scalar: mx.array, counted: mx.array
) -> tuple[mx.array, mx.array]:
    """The rest of the layer, for which all rows of the batch are one sequence; the imbalance.

    attended [B, heads, L, D]: what attention made of the rows.
    """
    attended = layer.attention.out(attended.swapaxes(1, 2).flatten(2))
    rows, shape, after = (1, -1, x.shape[-1]), x.shape, layer.after_attention
    x = after(x.reshape(rows), attended.reshape(rows), scalar).reshape(shape)
    router = after.router
    routing = router.last if isinstance(router, NotedRouter) else None
    return x, mx.zeros(()) if routing is None else imbalance(routing, counted)


def _normed(passes: Passes, x: mx.array, ends: Ends) -> mx.array:
    return mx.fast.rms_norm(x, ends.final_norm, passes.trained.config.text.rms_norm_eps)


def _counted(shape: tuple[int, ...], lengths: NDArray[np.int32] | None) -> mx.array:
    """Weights [B * L] of all positions but padding, whose sum is 1."""
    rows = np.ones(shape, np.float32)
    if lengths is not None:
        rows[np.arange(shape[1]) >= lengths[:, None]] = 0
    return mx.array((rows / rows.sum()).reshape(-1))


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


def _canvas_masks(
    starts: NDArray[np.int32], length: int, config: ModelConfig
) -> dict[bool, mx.array]:
    """The positions [M, L] that canvases see on full layers (False) and on sliding ones (True)."""
    position, start = np.arange(length), starts[:, None]
    masks = {}
    for sliding in (False, True):
        seen = position < start
        if sliding:
            seen &= position > start - config.text.sliding_window
        masks[sliding] = mx.array(seen)
    return masks
