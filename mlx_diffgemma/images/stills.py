"""Images in a list or in a folder as a video: a second each."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import ImageError, counted
from .pixels import Pixels, Source
from .sources import absolute, label, unreadable

SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib"),
    *(".heic", ".heif", ".hif", ".avif"),
}


class Stills:
    """Images of any kind that `prepare_image` takes; folder: the one that holds them."""

    def __init__(self, images: Sequence[Any], folder: Path | None = None) -> None:
        self.images, self.folder = images, folder
        self.count = len(images)
        self.seconds = Fraction(self.count)
        if not images:
            name = label(folder) if folder else "the video"
            raise ImageError(f"{name}: a video of 0 frames, expected at least one image.")

    def at(self, times: list[Fraction]) -> Iterator[Any]:
        """The image on view at each time."""
        for time in times:
            yield self.images[int(time)]

    def source(self, frames: list[Pixels]) -> Source:
        """The folder, if any, under a hash of the hashes of the frames that were taken."""
        hashes = "".join(frame.source.sha256 for frame in frames)
        path = absolute(self.folder) if self.folder else None
        return Source(path, sha256(hashes.encode()).hexdigest())


def frames_of(folder: Path) -> list[Path]:
    """The images of a folder in the natural order of their names: 2 before 10.

    Hidden files are left out; ImageError for any other that is no image by its name, since a
    folder of something else was not meant as a video.
    """
    try:
        files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    except OSError as error:
        raise unreadable(folder, error) from error
    others = sorted(file.name for file in files if file.suffix.lower() not in SUFFIXES)
    if others:
        more = f" and {counted(len(others) - 1, 'other')}" if others[1:] else ""
        raise ImageError(
            f"{label(folder / others[0])}{more}: no image by its name; a folder given as a video "
            "holds its frames and nothing else."
        )
    return sorted(files, key=_natural)


def _natural(file: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", file.name.casefold())
    return [int(part) if part.isdecimal() else part for part in parts], file.name
