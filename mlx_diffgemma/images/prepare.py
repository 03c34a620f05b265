"""From an image of any kind to Pixels: opened, made upright RGB, resized.

Source: transformers 5.24, `models/gemma4/image_processing_pil_gemma4.py`.
"""

from dataclasses import dataclass
from math import floor, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError, Setting, SettingsError, brief, counted
from .colour import on_white, orientation_of, turned
from .formats import decode, load, reading, require_size
from .libraries import require_pillow
from .pixels import DEFAULT_SOFT_TOKENS, MOST_SOFT_TOKENS, SIDE, Pixels, Source, hash_of
from .sources import read

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Opened:
    """An upright RGB image in memory, and its origin.

    width, height: as it was given. They stay where another image, such as a part of it, takes the
    place of `image` (dataclasses.replace).
    """

    image: "Image"
    source: Source
    width: int
    height: int


def prepare_image(
    image: Any, soft_tokens: int = DEFAULT_SOFT_TOKENS, *, exif: bool = True
) -> Pixels:
    """An image as the vision tower takes it, of at most `soft_tokens` (1 to 1,120) soft tokens.

    image: a path, bytes, an open binary file, a PIL image, an array of uint8 [H, W], [H, W, 3] or
    [H, W, 4], an Opened; Pixels are returned as they are. exif: turn it upright as its EXIF says,
    which the reference's processor leaves to others. ImageError: it cannot be read; SettingsError:
    the budget.
    """
    require_soft_tokens(soft_tokens)
    if isinstance(image, Pixels):
        require_within(image, soft_tokens)
        return image
    opened = open_image(image, exif=exif)
    return _fitted(opened, soft_tokens)


def open_image(image: Any, *, exif: bool = True) -> Opened:
    """An image of any kind that `prepare_image` takes, decoded; an Opened is returned as it is."""
    if isinstance(image, Opened):
        return image
    require_pillow()
    from PIL import Image

    if isinstance(image, Image.Image):
        return _in_memory(image, exif)
    if hasattr(image, "dtype") and hasattr(image, "shape"):
        return _in_memory(_from_array(image), exif)
    content = read(image)
    rgb = _upright(decode(content.data, content.name), content.name, exif)
    return Opened(rgb, content.source, *rgb.size)


def _fitted(opened: Opened, soft_tokens: int) -> Pixels:
    """Pixels of an opened image; equal size means no resize."""
    from PIL.Image import Resampling

    size = target_size(*opened.image.size, soft_tokens)
    image = opened.image
    if image.size != size:
        image = image.resize(size, Resampling.BICUBIC)
    return Pixels(np.asarray(image), opened.width, opened.height, opened.source)


def target_size(width: int, height: int, soft_tokens: int) -> tuple[int, int]:
    """Width and height after resizing: multiples of 48, at most `soft_tokens` of 48 x 48.

    Operation for operation the reference's get_aspect_ratio_preserving_size, so that it rounds
    alike.
    """
    factor = sqrt(soft_tokens * SIDE**2 / (height * width))
    h, w = (floor(factor * side / SIDE) * SIDE for side in (height, width))
    most = soft_tokens * SIDE
    if h == 0:  # both only for a square and 1 soft token
        return min(floor(width / height) * SIDE, most), SIDE
    if w == 0:
        return SIDE, min(floor(height / width) * SIDE, most)
    return w, h


def require_soft_tokens(soft_tokens: Any) -> None:
    """SettingsError for what is no budget of soft tokens."""
    whole = isinstance(soft_tokens, int | np.integer) and not isinstance(soft_tokens, bool)
    if not whole or not 1 <= soft_tokens <= MOST_SOFT_TOKENS:
        raise SettingsError(
            Setting("soft_tokens"),
            f" is {brief(soft_tokens)}, expected a whole number from 1 to {MOST_SOFT_TOKENS:,}.",
        )


def require_within(pixels: Pixels, soft_tokens: int) -> None:
    """SettingsError for an image that was prepared with a larger budget, and uses it."""
    if pixels.soft_tokens > soft_tokens:
        raise SettingsError(
            f"the image has been prepared as {counted(pixels.soft_tokens, 'soft token')}, ",
            Setting("soft_tokens"),
            f" is {soft_tokens:,}; prepare it anew.",
        )


def _in_memory(image: "Image", exif: bool) -> Opened:
    """Of an image that came from no file."""
    name = "the image"
    with reading(name):
        require_size(image.size, name)
        load(image)
    rgb = _upright(image, name, exif)
    return Opened(rgb, Source(None, hash_of(np.asarray(rgb))), *rgb.size)


def _from_array(given: Any) -> "Image":
    from PIL import Image

    shape, dtype = tuple(given.shape), str(given.dtype).rpartition(".")[2]
    plane = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if not plane or dtype != "uint8":
        raise ImageError(
            f"the image is an array of {dtype} {list(shape)}, expected uint8 [H, W], "
            "[H, W, 3] or [H, W, 4]."
        )
    if 0 in shape:
        raise ImageError(f"the image is an array of shape {list(shape)}, which holds no pixel.")
    return Image.fromarray(np.asarray(given))


def _upright(image: "Image", name: str, exif: bool) -> "Image":
    with reading(name):
        rgb = on_white(image, name)
        return turned(rgb, orientation_of(image)) if exif else rgb
