"""Images of random pixels, and prompts of random text around them; the same on every machine.

A soft token is 48 x 48 pixels. Pixels come from `checkpoints.uniform`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from checkpoints import Sizes, uniform

from mlx_diffgemma.images.pixels import SIDE, Pixels, Source


def random_image(columns: int, rows: int, *key: int) -> Pixels:
    """An image of columns x rows soft tokens."""
    shape = (rows * SIDE, columns * SIDE, 3)
    rgb = np.floor((uniform(shape, 71, *key) + 1) * 128).astype(np.uint8)
    return Pixels(rgb, shape[1], shape[0], Source(None, ""))


@dataclass(frozen=True)
class Shown:
    """Token ids of a prompt, and the images whose runs it holds."""

    ids: list[int]
    images: list[Pixels]

    def __add__(self, other: "Shown") -> "Shown":
        return Shown([*self.ids, *other.ids], [*self.images, *other.images])


def random_text(sizes: Sizes, count: int, *key: int) -> list[int]:
    """So many ids, none of them an image's."""
    below = min(sizes.image_ids)
    return np.floor((uniform((count,), 72, *key) + 1) / 2 * below).astype(int).tolist()


def shown(sizes: Sizes, parts: Sequence[int | Pixels], *key: int) -> Shown:
    """Numbers of random text tokens and images, in turn."""
    whole = Shown([], [])
    for number, part in enumerate(parts):
        if isinstance(part, int):
            whole += Shown(random_text(sizes, part, number, *key), [])
        else:
            whole += Shown([sizes.image_ids[1]] * part.soft_tokens, [part])
    return whole
