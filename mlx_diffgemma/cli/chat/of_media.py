"""Chat's commands about images and videos."""

from ...errors import counted
from ...images.clipboard import clipboard_images
from ...images.pixels import Pixels
from ...images.video import Clip
from ..errors import ArgumentError
from ..terminal.streams import say
from .dropped import named_files
from .talk import NONE, Talk


def image(talk: Talk, argument: str) -> None:
    """Attach images, the clipboard's, or remove them."""
    if argument == NONE:
        say(f"{counted(talk.detach(Pixels), 'image')} removed.")
    else:
        talk.attach(named_files(argument) if argument else clipboard_images())


def video(talk: Talk, argument: str) -> None:
    """Attach a video, or remove it."""
    if argument == NONE:
        say(f"{counted(talk.detach(Clip), 'video')} removed.")
        return
    files = named_files(argument) if argument else []
    if len(files) != 1:
        raise ArgumentError(f"/video takes one file, or a folder of frames, got {len(files)}.")
    talk.attach(video=files[0])
