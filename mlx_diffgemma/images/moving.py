"""Animations that Pillow opens as a video: GIF, WebP, APNG, AVIF; a still image is one frame."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING

from .colour import on_white, orientation_of, turned
from .formats import load, open_lazily, reading
from .pixels import Pixels, Source
from .prepare import Opened
from .sources import Content

if TYPE_CHECKING:
    from PIL.Image import Image

TIMED = ("GIF", "WEBP", "PNG", "AVIF")  # formats whose frames have times
UNHURRIED = Fraction(1, 100)  # seconds; browsers show a frame of no more than this for SLOWED
SLOWED = Fraction(1, 10)
MOST_DENOMINATOR = 65535  # of an APNG's durations, which Pillow rounds to a float


class Moving:
    """An animation; a page of a TIFF, and a still image, last a second."""

    def __init__(self, content: Content) -> None:
        self.content = content
        with self._reading():
            image = open_lazily(content.data, content.name)
            self.numbers = _numbers(image)
            *self.starts, self.seconds = accumulate(
                (_seconds(image, number) for number in self.numbers), initial=Fraction(0)
            )
        self.count = len(self.numbers)

    def at(self, times: list[Fraction]) -> Iterator[Opened]:
        """The frame on view at each time; in passing, all frames before it are decoded."""
        with self._reading():
            image = open_lazily(self.content.data, self.content.name)
        for time in times:
            with self._reading():
                image.seek(self.numbers[bisect_right(self.starts, time) - 1])
                load(image)
                rgb = turned(on_white(image, self.content.name), orientation_of(image))
            yield Opened(rgb, self.content.source, *rgb.size)

    def source(self, frames: list[Pixels]) -> Source:
        """The file's."""
        return self.content.source

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.content.name, self.content.data)


def _numbers(image: "Image") -> list[int]:
    """The frames to show, as Pillow counts them: for viewers that know no APNG, some hold a still
    one before the first. Those of a camera's MPO are previews."""
    if image.format == "MPO":
        return [0]
    return list(range(bool(getattr(image, "default_image", False)), getattr(image, "n_frames", 1)))


def _seconds(image: "Image", number: int) -> Fraction:
    image.seek(number)
    load(image)
    if image.format not in TIMED or getattr(image, "n_frames", 1) == 1:
        return Fraction(1)
    milliseconds = image.info.get("duration", 0)
    exact = Fraction(milliseconds / 1000).limit_denominator(MOST_DENOMINATOR)
    return exact if exact > UNHURRIED else SLOWED
