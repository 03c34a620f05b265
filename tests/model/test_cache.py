"""What was written into a prefix's buffers and is taken back."""

import mlx.core as mx
import pytest
from compare import assert_close

from mlx_diffgemma.model.cache import LayerCache, Prefix, Span


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
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(prefix.arrays())
        return mx.get_peak_memory() - before

    buffers = sum(array.nbytes for array in prefix.arrays())
    assert peak_bytes(let_go=True) < buffers / 100
    assert peak_bytes(let_go=False) > buffers / 2
