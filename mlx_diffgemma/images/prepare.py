"""From an image of any kind to Pixels."""

from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from .pixels import SIDE, Pixels, Source

DEFAULT_SOFT_TOKENS = 280


def prepare_image(
    image: Any, soft_tokens: int = DEFAULT_SOFT_TOKENS, *, exif: bool = True
) -> Pixels:
    """The Pixels of an image."""
    from PIL import Image

    data = Path(image).read_bytes()
    picture = Image.open(image).convert("RGB")
    size = target_size(picture.width, picture.height, soft_tokens)
    resized = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
    source = Source(str(image), sha256(data).hexdigest())
    return Pixels(np.asarray(resized), picture.width, picture.height, source)


def target_size(width: int, height: int, soft_tokens: int) -> tuple[int, int]:
    """Width and height after resizing: multiples of 48, at most `soft_tokens` of 48 x 48."""
    factor = sqrt(soft_tokens * SIDE**2 / (height * width))
    w, h = int(factor * width // SIDE) * SIDE, int(factor * height // SIDE) * SIDE
    most = soft_tokens * SIDE
    if h == 0:
        return min(width // height * SIDE, most), SIDE
    if w == 0:
        return SIDE, min(height // width * SIDE, most)
    return w, h
