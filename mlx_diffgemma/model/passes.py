"""The passes through a network's layers: a prompt's, one token's, a canvas's, with room for each.

Axes: L positions, C canvas positions, H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ..checkpoint.config import ModelConfig
from ..machine.pauses import Pauses
from ..share.part import Part, Rows
from .attention import ALL, Apart, Visibility
from .blocks import ALL_ROWS, Layer
from .images import Placed
from .prefix import Prefix


class Network(Protocol):
    """What the passes need of a Model; see there."""

    config: ModelConfig
    layers: list[Layer]
    part: Part
    pauses: Pauses | None

    @property
    def dtype(self) -> mx.Dtype: ...

    @property
    def numbers(self) -> range: ...


@dataclass(frozen=True)
class Piece:
    """Token ids [L] of a prompt that are encoded at once, the images among them, this Mac's rows.

    Where Macs share the piece by rows, each embeds and computes its own; keys and values of all
    are in every Mac's prefix.
    """

    ids: Sequence[int]
    images: Sequence[Placed] = ()
    rows: Rows = ALL_ROWS

    @property
    def own_ids(self) -> Sequence[int]:
        """The ids [R] of the own rows."""
        return self.ids[self.rows.own]

    def seen(self) -> Iterator[tuple[Placed, slice, slice]]:
        """The images in the own rows: which of these they take, with which of their soft tokens."""
        own = range(len(self.ids))[self.rows.own]
        for image in self.images:
            first, stop = max(own.start, image.span.start), min(own.stop, image.span.stop)
            if first < stop:
                of_rows = slice(first - own.start, stop - own.start)
                yield image, of_rows, slice(first - image.span.start, stop - image.span.start)

    @property
    def runs(self) -> tuple[range, ...]:
        """The indices of each image's soft tokens."""
        return tuple(image.span for image in self.images)


def encoded(
    network: Network, embedded: mx.array, prefix: Prefix, piece: Piece, *, whole: bool
) -> mx.array:
    """Output [1, R, H] of the causal pass's last layer, a full one, behind `prefix`.

    embedded [1, R, H]: the piece's own rows. Not whole: the last layer's input, and of the layer
    itself keys and values alone are computed.
    """
    text, rows = network.config.text, piece.rows
    make_room(network, prefix, len(piece.ids))
    runs = piece.runs if network.config.bidirectional_images else ()
    full = Visibility(causal=True, runs=runs)
    sliding = Visibility(causal=True, window=text.sliding_window, runs=runs)
    last = len(text.layers) - 1

    def run(x: mx.array) -> mx.array:
        numbered = zip(network.numbers, network.layers, prefix.layers, strict=True)
        for number, layer, cache in numbered:
            if number == last and not whole:
                cache.write(*layer.keys_and_values(x, prefix.length, rows), prefix.length)
                return x
            visible = full if cache.window is None else sliding
            x = _paused(network, layer.encode(x, cache, prefix.length, visible, rows))
        return x

    return network.part.through(embedded, run, returned=whole)


def stepped(network: Network, embedded: mx.array, prefix: Prefix) -> mx.array:
    """Output [1, 1, H] of the causal pass of one token, embedded [1, 1, H]."""
    make_room(network, prefix, 1)
    position = prefix.length

    def run(x: mx.array) -> mx.array:
        for layer, cache in zip(network.layers, prefix.layers, strict=True):
            x = _paused(network, layer.encode(x, cache, position, ALL))
        return x

    return network.part.through(embedded, run)


def decoded(
    network: Network,
    conditioned: mx.array,
    prefix: Prefix,
    visible: Visibility | Apart,
    rows: Rows,
) -> mx.array:
    """Output of the bidirectional pass of the rows of a canvas that conditioned [1, R, H] holds.

    Room for the whole canvas has been made.
    """

    def run(x: mx.array) -> mx.array:
        for layer, cache in zip(network.layers, prefix.layers, strict=True):
            x = _paused(network, layer.decode(x, cache, prefix.length, visible, rows))
        return x

    return network.part.through(conditioned, run)


def make_room(network: Network, prefix: Prefix, count: int) -> None:
    """Slots for `count` positions more in every layer; looked at once in many tokens."""
    end = prefix.length + count
    if end <= prefix.room:
        return
    for cache, block in zip(prefix.layers, network.layers, strict=True):
        layer = block.attention.layer
        upto = end if layer.sliding else max(end, prefix.reserved)
        like = (layer.num_key_value_heads, layer.head_dim, network.dtype)
        if cache.span is None or end > cache.span.end:  # before growing to what is reserved
            cache.make_room(prefix.length, upto, like, prefix.marked)
    prefix.find_room()


def _paused(network: Network, x: mx.array) -> mx.array:
    """A layer's result; some are computed at once, with a pause behind them."""
    return x if network.pauses is None else network.pauses.after_layer(x)
