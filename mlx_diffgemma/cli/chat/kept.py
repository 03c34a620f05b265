"""Images and videos in a saved conversation: by the path and hash of their file, or kept whole.

Kept is what the model saw: the resized image as PNG, or those of a video's frames. It is the same
on every machine, and seldom larger than the file it came from.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import ImageError, counted
from ...images.pixels import MOST_SOFT_TOKENS, Pixels, Source
from ...images.png import from_png, to_png
from ...images.prepare import prepare_image, target_size
from ...images.video import DEFAULT_FRAME_TOKENS, Clip, prepare_video
from ...text.placeholders import Medium
from ..errors import FileError

IMAGE, VIDEO = "image", "video"
KEYS = {"kind", "path", "sha256", "soft_tokens", "pictures", "stamps", "seconds", "source_frames"}
PICTURE_KEYS = {"png", "width", "height"}


def to_entry(medium: Medium, *, keep: bool) -> dict[str, Any]:
    """An image or a video as a saved conversation holds it.

    keep: with its pictures, which one always is kept with that no file gives back as it is.
    """
    tokens = None if keep else _tokens_to_read(medium)
    clip = medium if isinstance(medium, Clip) and tokens is None else None
    frames = medium.frames if isinstance(medium, Clip) else (medium,)
    return {
        "kind": VIDEO if isinstance(medium, Clip) else IMAGE,
        "path": medium.source.path,
        "sha256": medium.source.sha256,
        "soft_tokens": tokens,
        "pictures": None if tokens else [_to_picture(frame) for frame in frames],
        "stamps": list(clip.stamps) if clip else None,
        "seconds": clip.seconds if clip else None,
        "source_frames": clip.source_frames if clip else None,
    }


def from_entry(entry: Any) -> Medium:
    """The image or video of an entry; ValueError for what is none, and ImageError.

    FileError for a file that is gone, or is not what it was.
    """
    if not isinstance(entry, dict) or entry.keys() != KEYS or entry["kind"] not in (IMAGE, VIDEO):
        raise ValueError("keys or a kind that are none of an image or a video")
    path, sha256, pictures = entry["path"], entry["sha256"], entry["pictures"]
    if not isinstance(sha256, str) or not (path is None or isinstance(path, str)):
        raise ValueError("a path or a hash that is no text")
    source = Source(path, sha256)
    if pictures is None:
        return _read_again(entry["kind"], source, entry["soft_tokens"])
    if not isinstance(pictures, list) or not pictures:
        raise ValueError("no list of pictures")
    frames = tuple(_from_picture(picture, source) for picture in pictures)
    if entry["kind"] == VIDEO:
        return _clip(entry, frames, source)
    if len(frames) != 1:
        raise ValueError(f"{len(frames)} pictures of one image")
    return frames[0]


def _tokens_to_read(medium: Medium) -> int | None:
    """The soft tokens with which the file gives the same image again, None where it does not.

    A video's file is looked for and not decoded, which may take long; its hash is checked when it
    is loaded.
    """
    path = medium.source.path
    if path is None:
        return None
    if isinstance(medium, Clip):
        usual = max(frame.soft_tokens for frame in medium.frames) <= DEFAULT_FRAME_TOKENS
        return DEFAULT_FRAME_TOKENS if usual and Path(path).exists() else None
    height, width, _ = medium.rgb.shape
    given = medium.width, medium.height
    sizes = ((n, target_size(*given, n)) for n in range(medium.soft_tokens, MOST_SOFT_TOKENS + 1))
    tokens = next((n for n, size in sizes if size == (width, height)), None)
    try:
        same = tokens is not None and prepare_image(path, tokens).digest == medium.digest
    except ImageError:
        return None
    return tokens if same else None


def _to_picture(pixels: Pixels) -> dict[str, Any]:
    png = b64encode(to_png(pixels)).decode("ascii")
    return {"png": png, "width": pixels.width, "height": pixels.height}


def _from_picture(picture: Any, source: Source) -> Pixels:
    if not isinstance(picture, dict) or picture.keys() != PICTURE_KEYS:
        raise ValueError("a picture without png, width and height")
    png, width, height = picture["png"], picture["width"], picture["height"]
    if not isinstance(png, str) or not (_is_whole(width) and _is_whole(height)):
        raise ValueError("a picture whose png is no text, or whose size is none")
    return from_png(b64decode(png, validate=True), width, height, source)


def _clip(entry: dict[str, Any], frames: tuple[Pixels, ...], source: Source) -> Clip:
    stamps, seconds, count = entry["stamps"], entry["seconds"], entry["source_frames"]
    texts = isinstance(stamps, list) and all(isinstance(stamp, str) for stamp in stamps)
    if not texts or len(stamps) != len(frames):
        raise ValueError("a video without a time for each frame")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        raise ValueError("a video without a length")
    if not _is_whole(count):
        raise ValueError("a video without a number of frames")
    return Clip(frames, tuple(stamps), float(seconds), source, count)


def _read_again(kind: str, source: Source, tokens: Any) -> Medium:
    if source.path is None or not (_is_whole(tokens) and tokens <= MOST_SOFT_TOKENS):
        raise ValueError("neither pictures nor a file and its soft tokens")
    wanted = f"{source.path} with sha256 {source.sha256[:12]}..."
    behind = "put that file there, or save with /save FILE --with-images where it still is"
    try:
        prepare = prepare_image if kind == IMAGE else prepare_video
        medium: Medium = prepare(source.path, tokens)
    except ImageError as error:
        reason = str(error).removesuffix(".")
        raise FileError(f"the conversation needs {wanted}: {reason}; {behind}.") from error
    if medium.source.sha256 != source.sha256:
        raise FileError(
            f"the conversation needs {wanted}, and the file now has "
            f"{medium.source.sha256[:12]}...; {behind}."
        )
    return medium


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def in_words(media: Sequence[Medium]) -> str:
    """The number of images and of videos: "2 images and 1 video"."""
    clips = sum(isinstance(medium, Clip) for medium in media)
    counts = (("image", len(media) - clips), ("video", clips))
    return " and ".join(counted(count, noun) for noun, count in counts if count)
