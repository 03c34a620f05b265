"""An image as the vision tower takes it: patches of 16 x 16 pixels, three by three a soft token.

Axes: P patches. Source: transformers 5.24, `models/gemma4/image_processing_pil_gemma4.py`.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ..errors import brief, counted

PATCH = 16  # pixels along a side
POOL = 3  # patches along a side of a soft token
SIDE = PATCH * POOL  # pixels along a side of a soft token
PATCH_NUMBERS = 3 * PATCH * PATCH  # red, green and blue of each pixel
DEFAULT_SOFT_TOKENS = 280  # of an image, as the published processor_config.json has it
MOST_SOFT_TOKENS = 1120  # the largest budget that the position tables were trained for


@dataclass(frozen=True)
class Source:
    """The origin of an image or a video, by which a saved conversation finds it again.

    path: None where it came from no file; sha256: of the bytes that it was read from, in hex, or
    of its pixels where there were none.
    """

    path: str | None
    sha256: str

    def named(self) -> str:
        """The file's name behind a comma; "" where it came from none."""
        return "" if self.path is None else f", {brief(os.path.basename(self.path))}"


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image, resized: rgb [h, w, 3] uint8, h and w multiples of 48.

    width, height: of the image as it was given, upright.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    source: Source

    def __repr__(self) -> str:
        size = f"{self.width} x {self.height} pixels"
        return f"Pixels({size}, {counted(self.soft_tokens, 'soft token')}{self.source.named()})"

    @property
    def soft_tokens(self) -> int:
        """The number of soft tokens, each of 48 x 48 pixels."""
        height, width, _ = self.rgb.shape
        return int(height // SIDE) * int(width // SIDE)

    @property
    def patches(self) -> NDArray[np.float32]:
        """[P, 768] in 0..1, row by row; in a patch pixels row by row, each red, green, blue.

        Computed at each call, since they take twelve times the bytes. The factor 1/255 is applied
        in float64 and the product rounded to float32, as in the reference.
        """
        height, width, channels = self.rgb.shape
        rows, columns = height // PATCH, width // PATCH
        scaled = (self.rgb * (1 / 255)).astype(np.float32)
        cut = scaled.reshape(rows, PATCH, columns, PATCH, channels).transpose(0, 2, 1, 3, 4)
        return cut.reshape(rows * columns, PATCH * PATCH * channels)

    @property
    def positions(self) -> NDArray[np.int32]:
        """[P, 2]: column x and row y of each patch."""
        height, width, _ = self.rgb.shape
        rows, columns = np.indices((height // PATCH, width // PATCH), dtype=np.int32)
        return np.stack([columns.ravel(), rows.ravel()], axis=-1)

    @cached_property
    def digest(self) -> str:
        """A hash of what the tower sees, in hex: equal for two images with equal features."""
        return hash_of(self.rgb)


def hash_of(rgb: NDArray[np.uint8]) -> str:
    """The sha256 of pixels [h, w, 3], in hex; equal pixels of another shape have another."""
    shape = np.array(rgb.shape, np.int64)
    return sha256(shape.tobytes() + np.ascontiguousarray(rgb).tobytes()).hexdigest()
