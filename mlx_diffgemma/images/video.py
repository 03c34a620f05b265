"""A video as frames: each an image, with the time at which it is shown."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..errors import ImageError
from .pixels import Pixels, Source
from .prepare import prepare_image

FRAME_SOFT_TOKENS = 70  # of a frame of a video


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a video in order, their stamps "MM:SS", and its length in seconds."""

    frames: tuple[Pixels, ...]
    stamps: tuple[str, ...]
    seconds: float
    source: Source

    @property
    def soft_tokens(self) -> int:
        """Soft tokens of all frames."""
        return sum(frame.soft_tokens for frame in self.frames)


def prepare_video(video: Any, soft_tokens: int = FRAME_SOFT_TOKENS) -> Clip:
    """The Clip of a list of images, one a second."""
    if not isinstance(video, list) or not video:
        raise ImageError(f"the video is a {type(video).__name__}, expected a list of images.")
    frames = tuple(prepare_image(image, soft_tokens) for image in video)
    stamps = tuple(f"{second // 60:02}:{second % 60:02}" for second in range(len(frames)))
    digest = sha256("".join(frame.source.sha256 for frame in frames).encode()).hexdigest()
    return Clip(frames, stamps, float(len(frames)), Source(None, digest))
