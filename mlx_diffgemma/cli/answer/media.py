"""The images and the video of a command: decoded before a model is loaded, and told of before it
answers.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...checkpoint.config import ModelConfig, read_config
from ...checkpoint.hub import known_folder
from ...checkpoint.vision import require_vision
from ...conversation.turn import Turn
from ...errors import Setting, SettingsError, counted
from ...images.pixels import Pixels
from ...images.png import thumbnail
from ...images.prepare import Opened, open_image, prepare_image
from ...images.video import Clip, prepare_video
from ...text.placeholders import Medium
from ..errors import FileError
from ..options import STANDARD_INPUT, MediaOptions
from ..terminal.inline import can_show, show_image
from ..terminal.progress import Bar
from ..terminal.streams import is_terminal, say, tell

SHOWN_PIXELS = 384  # of an image in the terminal, along its longer side


@dataclass(frozen=True)
class Media:
    """Images and a video in front of a prompt, as a session's `turn` takes them."""

    images: tuple[Opened | Pixels, ...] = ()
    video: Clip | None = None
    image_tokens: int | None = None

    def require_sight(self, config: ModelConfig) -> None:
        """Raise what `budget_of` does, where there is something to see."""
        if self.images or self.video is not None or self.image_tokens is not None:
            budget_of(config, self.image_tokens)


def read_media(options: MediaOptions, model: str, *, more_may_come: bool = False) -> Media:
    """The images and the video, decoded; what the model cannot take is refused before that.

    A repository says only once it is here whether it sees images, and how large they may be; until
    then they stay as they are in memory, and so they do for a task, which prepares them in its own
    way. ImageError: what cannot be read.
    """
    if options.image_tokens is None and not options.given:
        return Media()
    if not options.images and options.image_tokens is not None and not more_may_come:
        raise SettingsError(Setting("image_tokens"), " is given beside no --image; leave it out.")
    folder = known_folder(model)
    budget = None if folder is None else budget_of(read_config(folder), options.image_tokens)
    images = tuple(_image(file, budget) for file in options.images or ())
    video = None if options.video is None else read_video(options.video)
    return Media(images, video, None if budget and images else options.image_tokens)


def budget_of(config: ModelConfig, wanted: int | None) -> int | None:
    """The soft tokens that an image may take; None for a task, which has a rule of its own.

    CheckpointError where the checkpoint sees no images, SettingsError for a number that it does not
    offer.
    """
    vision = require_vision(config.vision)
    return None if config.task else vision.budget(wanted)


def read_video(file: Path) -> Clip:
    """A video's frames, with a bar: to decode them takes a while."""
    with Bar("reading the video") as bar:
        return prepare_video(file, progress=bar)


def _image(file: Path, budget: int | None) -> Opened | Pixels:
    """An image, resized where its soft tokens are known."""
    source: Path | BinaryIO = file
    if file == STANDARD_INPUT:
        if sys.stdin is None or is_terminal(sys.stdin):
            raise FileError("--image is -, and standard input is no image; name a file.")
        source = sys.stdin.buffer
    return open_image(source) if budget is None else prepare_image(source, budget)


def show_media(
    media: Sequence[Medium],
    unnamed: str = "from standard input",
    behind: str = ".",
    *,
    pictures: bool = True,
) -> None:
    """A line for each image and video on standard error, and a picture where a terminal shows it.

    unnamed: the place of what came from no file; behind: the end of each line.
    """
    for medium in media:
        say(f"{described(medium, unnamed)}{behind}")
        first = medium.frames[0] if isinstance(medium, Clip) else medium
        if pictures and can_show():
            height, width, _ = first.rgb.shape
            show_image(thumbnail(first, SHOWN_PIXELS), width, height)


def show_read(turn: Turn) -> None:
    """The problem that was read in a picture, on standard error: a misreading shows there alone."""
    if turn.task and turn.puzzle and turn.question.media:
        say("read in the picture:")
        for line in turn.task.drawing(turn.puzzle):
            tell(line)


def described(medium: Medium, unnamed: str) -> str:
    """A line about an image or a video: its name, its size, and what it costs."""
    name, tokens = name_of(medium, unnamed), counted(medium.soft_tokens, "soft token")
    if isinstance(medium, Pixels):
        return f"image {name}: {medium.width:,} x {medium.height:,} pixels, {tokens}"
    frames = counted(len(medium.frames), "frame")
    return f"video {name}: {medium.seconds:,.1f} s, {frames}, {tokens}"


def name_of(medium: Medium, unnamed: str) -> str:
    """The name of the file that an image or a video came from."""
    path = medium.source.path
    return Path(path).name if path else unnamed
