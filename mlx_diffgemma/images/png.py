"""Pixels as PNG, in which a saved conversation keeps what the model saw, and back; small ones."""

from dataclasses import replace
from io import BytesIO
from struct import unpack

from ..errors import ImageError
from .pixels import MOST_SOFT_TOKENS, SIDE, Pixels, Source
from .prepare import prepare_image

HEAD, SIZE = b"\x89PNG\r\n\x1a\n", slice(16, 24)  # how a file begins; its width and height


def to_png(pixels: Pixels) -> bytes:
    """The resized image, bit by bit."""
    from PIL import Image

    content = BytesIO()
    Image.fromarray(pixels.rgb).save(content, "PNG", compress_level=1)
    return content.getvalue()


def thumbnail(pixels: Pixels, most: int) -> bytes:
    """The resized image, made smaller: at most `most` pixels wide and high."""
    from PIL import Image

    content = BytesIO()
    small = Image.fromarray(pixels.rgb)
    small.thumbnail((most, most), reducing_gap=2.0)
    small.save(content, "PNG", optimize=True)
    return content.getvalue()


def from_png(content: bytes, width: int, height: int, source: Source) -> Pixels:
    """The Pixels of what `to_png` has written; width, height: of the image as it was given.

    ImageError where its size is that of no resized image, or where it cannot be decoded.
    """
    size = unpack(">II", content[SIZE]) if content[:8] == HEAD and len(content) >= SIZE.stop else ()
    across, down = (side // SIDE for side in size) if size else (0, 0)
    if (across * SIDE, down * SIDE) != size or not 1 <= across * down <= MOST_SOFT_TOKENS:
        raise ImageError(
            f"a kept picture has {size or 'no'} pixels, expected a PNG of at most "
            f"{MOST_SOFT_TOKENS:,} squares of {SIDE} x {SIDE} pixels."
        )
    pixels = prepare_image(content, across * down, exif=False)  # of that size: not resized
    return replace(pixels, width=width, height=height, source=source)
