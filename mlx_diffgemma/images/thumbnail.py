"""A small copy of an image as PNG, for a terminal that can show it."""

from io import BytesIO

from .pixels import Pixels


def thumbnail(pixels: Pixels, most: int) -> bytes:
    """What the tower sees of an image, as PNG, at most `most` pixels wide and high."""
    from PIL import Image

    content = BytesIO()
    small = Image.fromarray(pixels.rgb)
    small.thumbnail((most, most), reducing_gap=2.0)
    small.save(content, "PNG", optimize=True)
    return content.getvalue()
