"""A video as the network takes it: images at one a second, at most 60, each with its time.

The reference's own processor samples 32 frames; the model's card says one a second and at most 60.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from math import ceil
from typing import Any, Protocol

from ..errors import ImageError, counted
from .film import Film
from .formats import HEAD_BYTES, READABLE, format_of, is_video
from .libraries import require_pillow
from .moving import Moving
from .pixels import Pixels, Source
from .prepare import prepare_image, require_soft_tokens, require_within
from .sources import Content, hashed, head_of, label, path_of, read, read_file
from .stills import Stills, frames_of

DEFAULT_FRAME_TOKENS = 70
MOST_FRAMES = 60
Progress = Callable[[int, int], None]
"""Called with the number of frames that are prepared, and of those there will be."""


@dataclass(frozen=True, eq=False)
class Clip:
    """The sampled frames of a video, and the time of each as MM:SS.

    seconds: of the whole video; source_frames: the number of frames in it.
    """

    frames: tuple[Pixels, ...]
    stamps: tuple[str, ...]
    seconds: float
    source: Source
    source_frames: int

    def __repr__(self) -> str:
        frames, tokens = counted(len(self.frames), "frame"), counted(self.soft_tokens, "soft token")
        return f"Clip({frames}, {tokens}, {self.seconds:.3g} seconds{self.source.named()})"

    @property
    def soft_tokens(self) -> int:
        """The number of soft tokens of all frames."""
        return sum(frame.soft_tokens for frame in self.frames)

    @property
    def step_seconds(self) -> float:
        """Seconds from one frame to the next; above 1 where the video is too long for one each."""
        return max(1.0, self.seconds / MOST_FRAMES)


class Footage(Protocol):
    """A video that has been looked through, so that its length is known: `count` frames."""

    seconds: Fraction
    count: int

    def at(self, times: list[Fraction]) -> Iterator[Any]:
        """The frame on view at each of these ascending times, as `prepare_image` takes it."""

    def source(self, frames: list[Pixels]) -> Source:
        """The origin of the video of which these frames were taken."""


def prepare_video(
    video: Any, soft_tokens: int = DEFAULT_FRAME_TOKENS, progress: Progress | None = None
) -> Clip:
    """A video as images of at most `soft_tokens` (1 to 1,120) soft tokens each.

    video: the path of a file, of an animation or of a folder of frames; bytes of a file; a list of
    images, which are a second each. A Clip is returned as it is. ImageError: it cannot be read, or
    has no frame; SettingsError: the budget.
    """
    require_soft_tokens(soft_tokens)
    if isinstance(video, Clip):
        for frame in video.frames:
            require_within(frame, soft_tokens)
        return video
    require_pillow()
    footage = _footage(video)
    times = moments(footage.seconds)
    frames: list[Pixels] = []
    for image in footage.at(times):
        frames.append(prepare_image(image, soft_tokens))
        if progress:
            progress(len(frames), len(times))
    source, stamps = footage.source(frames), tuple(map(stamp, times))
    return Clip(tuple(frames), stamps, float(footage.seconds), source, footage.count)


def moments(seconds: Fraction) -> list[Fraction]:
    """The times of the frames to take: every second, or 60 of equal distance where those are
    too many."""
    count = min(MOST_FRAMES, max(1, ceil(seconds)))
    step = max(Fraction(1), seconds / MOST_FRAMES)
    return [number * step for number in range(count)]


def stamp(time: Fraction) -> str:
    """MM:SS, rounded down; the minutes go on above 59."""
    minutes, seconds = divmod(int(time), 60)
    return f"{minutes:02d}:{seconds:02d}"


def _footage(video: Any) -> Footage:
    if isinstance(video, list | tuple):
        return Stills(video)
    if not isinstance(video, str | os.PathLike):
        return _in_memory(read(video, "video"))
    path = path_of(video, "video")
    if path.is_dir():
        return Stills(frames_of(path), path)
    if path.is_file() and is_video(head_of(path)):  # streamed: it may be larger than the memory
        return Film(lambda: path.open("rb"), label(path), hashed(path))
    return _in_memory(read_file(path))


def _in_memory(content: Content) -> Footage:
    head = content.data[:HEAD_BYTES]
    if is_video(head):
        return Film(lambda: BytesIO(content.data), content.name, content.source)
    if format_of(head):
        return Moving(content)
    found = "no video that can be read here" if head else "the file is empty"
    raise ImageError(
        f"{content.name}: {found}, expected mp4, mov, mkv, webm, avi, or an image: {READABLE}."
    )
