"""Pictures resized and smoothed, for those who know no Pillow."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def resized(image: "Image", side: int, box: Box) -> "Image":
    """The part of `image` in `box` as a square of `side` pixels, bicubic."""
    from PIL import Image

    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def shrunk(image: "Image", longest: int) -> "Image":
    """The picture with no side longer than `longest`, each pixel the mean of those it covers."""
    from PIL import Image

    scale = min(1.0, longest / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def contrast(image: "Image", rim: int, radius: float) -> NDArray[np.int16]:
    """Distance [h, w] of each pixel from the Gaussian mean around it, the largest of its channels.

    A rim of so many pixels of the background's colour lies around the picture while it is blurred.
    """
    from PIL import ImageFilter, ImageOps

    wide = ImageOps.expand(image, rim, background(image))
    blurred = wide.filter(ImageFilter.GaussianBlur(radius))
    away = np.abs(np.asarray(wide, np.int16) - np.asarray(blurred, np.int16)).max(axis=2)
    inside: NDArray[np.int16] = away[rim : rim + image.height, rim : rim + image.width]
    return inside


def background(image: "Image") -> tuple[int, int, int]:
    """The colour of most of an RGB picture: the median of each channel."""
    red, green, blue = np.median(np.asarray(image).reshape(-1, 3), axis=0).astype(int).tolist()
    return red, green, blue


def on_canvas(image: "Image", width: int, height: int) -> "Image":
    """The picture at the left and top of a larger one in its background's colour."""
    from PIL import Image

    canvas = Image.new("RGB", (width, height), background(image))
    canvas.paste(image, (0, 0))
    return canvas
