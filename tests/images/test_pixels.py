"""Pixels: patches, positions and the digest."""

import numpy as np
from pictures import picture

from mlx_diffgemma.images.pixels import Pixels, Source

SOURCE = Source(None, "")


def pixels(width: int = 96, height: int = 144, seed: int = 0) -> Pixels:
    return Pixels(np.asarray(picture((width, height), seed=seed)), width, height, SOURCE)


def test_a_soft_token_is_48_by_48_pixels() -> None:
    assert pixels(96, 144).soft_tokens == 6
    assert pixels(96, 144).patches.shape == (54, 768)


def test_patches_go_row_by_row_and_hold_pixels_row_by_row() -> None:
    image = pixels()
    for number, (x, y) in enumerate(image.positions):
        there = image.rgb[16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
        np.testing.assert_array_equal(image.patches[number] * np.float32(255), there.ravel())
    assert image.positions.tolist()[:7] == [[x, 0] for x in range(6)] + [[0, 1]]


def test_scaling_is_in_float64_and_rounded_once() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(27).reshape(48, 48, 3)
    values = Pixels(every, 48, 48, SOURCE).patches
    expected = (np.arange(256) * np.float64(1 / 255)).astype(np.float32)
    np.testing.assert_array_equal(np.unique(values), expected)
    assert values.dtype == np.float32


def test_the_digest_is_that_of_what_is_seen() -> None:
    image = pixels()
    assert image.digest == Pixels(image.rgb.copy(), 1, 1, Source("x", "y")).digest
    assert image.digest != pixels(seed=1).digest
    assert image.digest != pixels(144, 96).digest
    reshaped = Pixels(image.rgb.reshape(96, 144, 3), 144, 96, SOURCE)
    assert image.digest != reshaped.digest
