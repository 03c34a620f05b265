"""What was written into a prefix's buffers and is taken back, and buffers that are shrunk."""

from pathlib import Path

import mlx.core as mx
import pytest
from checkpoints import Sizes, write_checkpoint
from compare import assert_close
from held import peak_of
from prefixes import assert_same_prefix

import mlx_diffgemma as dg
from mlx_diffgemma.model.cache import LayerCache, Span
from mlx_diffgemma.model.prefix import Prefix


def filled(positions: int, value: float) -> tuple[mx.array, mx.array]:
    keys = mx.full((1, 2, positions, 4), value)
    return keys, -keys


@pytest.fixture
def prefix() -> Prefix:
    """Four positions of ones in a sliding and a full layer, with room behind them."""
    layers = [LayerCache(3), LayerCache(None)]
    for layer in layers:
        layer.make_room(0, 300, (2, 4, mx.float32), 0)
        layer.write(*filled(4, 1.0), 0)
    return Prefix(layers, known=[1, 2, 3, 4])


def spans(prefix: Prefix) -> list[Span]:
    return [layer.span for layer in prefix.layers if layer.span]


def test_what_was_written_since_is_taken_back(prefix: Prefix) -> None:
    held = prefix.buffers()
    for layer in prefix.layers:
        layer.write(*filled(2, 5.0), 4)
    assert [float(span.keys[0, 0, 4, 0]) for span in spans(prefix)] == [5, 5]
    prefix.put_back(held)
    for span in spans(prefix):
        assert_close(span.keys[:, :, :4], filled(4, 1.0)[0], 0.0, "keys")
        assert_close(span.keys[:, :, 4:6], filled(2, 0.0)[0], 0.0, "keys behind")
        assert_close(span.values[:, :, 4:6], filled(2, 0.0)[1], 0.0, "values behind")


def test_a_write_copies_no_buffer_once_the_held_ones_are_let_go(prefix: Prefix) -> None:
    """A step that is built ahead is evaluated when nobody holds them any more."""
    for layer in prefix.layers:
        layer.make_room(4, 100_000, (2, 4, mx.float32), 0)
    mx.eval(prefix.arrays())

    def peak_bytes(*, let_go: bool) -> int:
        held = prefix.buffers()
        for layer in prefix.layers:
            layer.write(*filled(2, 5.0), 4)
        if let_go:
            held.clear()
        return peak_of(prefix.arrays)

    buffers = sum(array.nbytes for array in prefix.arrays())
    assert peak_bytes(let_go=True) < buffers / 100
    assert peak_bytes(let_go=False) > buffers / 2


def test_a_prefix_that_was_shrunk_goes_on_and_goes_back_as_before(tmp_path: Path) -> None:
    """Less memory for the same positions; both sides of the window and the mark are reachable."""
    model = dg.load_model(write_checkpoint(tmp_path, Sizes(sliding_window=8, std=0.03)))
    tokens, canvas = [*range(3, 100)] * 20, [*range(8)]
    shrunk, whole = (model.encode(tokens[:1100]) for _ in range(2))
    for prefix in (shrunk, whole):
        prefix.mark()
        model.encode(tokens[1100:1160], prefix)
    before = shrunk.num_bytes
    shrunk.shrink()
    assert shrunk.num_bytes < before
    assert_same_prefix(shrunk, whole, model, canvas, 0.0)
    for position in (1160, 1130, 1100, 140):
        assert shrunk.reachable(position) == whole.reachable(position) == position
    for prefix in (shrunk, whole):
        prefix.roll_back(1090)
        model.encode(tokens[:30], prefix)
    assert_same_prefix(shrunk, whole, model, canvas, 1e-6)
    empty = model.new_prefix()
    empty.shrink()
    assert empty.length == 0


def test_a_prefix_that_is_shrunk_can_still_go_back_to_its_mark(tmp_path: Path) -> None:
    """A sliding layer that has not grown yet holds the mark in its slack alone."""
    model = dg.load_model(write_checkpoint(tmp_path, Sizes(sliding_window=8, std=0.03)))
    prefix = model.encode([5] * 60)
    prefix.mark()
    model.encode([7] * 1140, prefix)
    prefix.shrink()
    assert prefix.reachable(60) == 60
    assert prefix.reachable(120) == 60
