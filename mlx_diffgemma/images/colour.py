"""Any mode of Pillow's to upright RGB, with the reference's rules.

Source: transformers 5.24, `image_transforms.py` convert_to_rgb.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112  # of EXIF
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""An orientation of EXIF -> the transposition that brings the image upright; 1 is upright."""


def on_white(image: "Image", name: str) -> "Image":
    """RGB; what is transparent shows white. ImageError for a mode that has no such colours."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return _eight_bits(image)
    if image.mode in ("I", "F"):
        numbers = "whole numbers" if image.mode == "I" else "floating-point numbers"
        raise ImageError(
            f"{name}: an image of 32-bit {numbers}, whose black and white are not known, expected "
            "8 or 16 bits; convert it to 8 bits."
        )
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: "Image") -> "Image":
    """16-bit grey: the upper byte, which is what Pillow takes of 16-bit colours."""
    from PIL import Image

    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def turned(image: "Image", orientation: object) -> "Image":
    """The image upright, after its orientation of EXIF; as it is for 1, and for what is none."""
    from PIL.Image import Transpose

    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(Transpose[turn]) if turn else image


def orientation_of(image: "Image") -> object:
    """The orientation that EXIF or XMP states; 1 where they cannot be read, as in a viewer."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises anything on a broken block, which says nothing of the pixels
        return 1
