"""A small copy for a terminal."""

import io

import numpy as np
import pytest
from PIL import Image

from mlx_diffgemma.images.pixels import Pixels, Source
from mlx_diffgemma.images.png import thumbnail


@pytest.mark.parametrize(
    ("shape", "size"), [((96, 48), (48, 96)), ((960, 480), (192, 384)), ((48, 3840), (384, 5))]
)
def test_it_is_small_and_keeps_its_shape(shape: tuple[int, int], size: tuple[int, int]) -> None:
    rgb = np.full((*shape, 3), (200, 100, 50), np.uint8)
    small = Image.open(io.BytesIO(thumbnail(Pixels(rgb, 1, 1, Source(None, "")), 384)))
    assert (small.format, small.mode, small.size) == ("PNG", "RGB", size)
    assert small.getpixel((0, 0)) == (200, 100, 50)
