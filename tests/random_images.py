"""Prompts of random text with images of random pixels in it; the same on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from checkpoints import Sizes, random_image, uniform

from mlx_diffgemma.images.pixels import Pixels, Source


def random_pixels(width: int, height: int, key: int) -> Pixels:
    """An image of width x height soft tokens."""
    rgb = random_image(width, height, key)
    return Pixels(rgb, rgb.shape[1], rgb.shape[0], Source(None, ""))


@dataclass(frozen=True)
class Shown:
    """Token ids of a prompt, and the images whose runs it holds."""

    ids: list[int]
    images: list[Pixels]

    def __add__(self, other: "Shown") -> "Shown":
        return Shown([*self.ids, *other.ids], [*self.images, *other.images])


def random_text(sizes: Sizes, count: int, *key: int) -> list[int]:
    """So many ids, none of them an image's."""
    return np.floor((uniform((count,), 72, *key) + 1) / 2 * sizes.text_ids).astype(int).tolist()


def shown(sizes: Sizes, parts: Sequence[int | Pixels], *key: int) -> Shown:
    """Numbers of random text tokens and images, in turn."""
    whole = Shown([], [])
    for number, part in enumerate(parts):
        if isinstance(part, int):
            whole += Shown(random_text(sizes, part, number, *key), [])
        else:
            whole += Shown([sizes.image_ids[1]] * part.soft_tokens, [part])
    return whole
