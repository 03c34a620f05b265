"""Bytes of an image file to a decoded PIL image, or one line about what is wrong with them."""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from ..errors import DiffGemmaError, ImageError, one_line, shown
from .libraries import require_heif

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 1 << 27  # of an image: half a GiB, as Pillow holds them
READABLE = "PNG, JPEG, WebP, GIF, TIFF, BMP, HEIC or AVIF"
NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}  # of formats that Pillow writes otherwise than people do
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
STDERR = 2  # the file descriptor
HEAD_BYTES = 64  # that tell the format of a file
MOV_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}  # one begins the file

_PREFIXES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
}


def format_of(head: bytes) -> str | None:
    """Pillow's name of the image format that a file's first bytes announce; None for all else.

    Pillow is asked for this format alone: among those that it would try are some that run other
    programs, or read other files.
    """
    for prefix, name in _PREFIXES.items():
        if head.startswith(prefix):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), HEAD_BYTES)
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
        return "AVIF" if brands & AVIF_BRANDS else "HEIF" if brands & HEIF_BRANDS else None
    return None


def decode(data: bytes, name: str) -> "Image":
    """The first image of a file, its pixels in memory; ImageError where they are not all there.

    name: of the file, for errors.
    """
    with reading(name, data):
        image = open_lazily(data, name)
        load(image)
    return image


def load(image: "Image") -> None:
    """Bring the pixels of an image, or of its frame, into memory."""
    if image.format == "TIFF":
        with _silent_stderr():
            image.load()
    else:
        image.load()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """A stretch in which nothing reaches standard error: libtiff writes lines to it, past Python,
    for what Pillow then raises as one error."""
    try:
        usual = os.dup(STDERR)
    except OSError:  # closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
            yield
    finally:
        os.dup2(usual, STDERR)
        os.close(usual)


def open_lazily(data: bytes, name: str) -> "Image":
    """An image of a size that may be decoded, of which only the header has been read."""
    from PIL import Image, features

    kind = format_of(data[:HEAD_BYTES])
    if kind is None:
        raise ImageError(f"{name}: {_other(data)}")
    if kind == "HEIF":
        return _open_heif(data, name)
    if kind == "AVIF" and not features.check("avif"):
        raise ImageError(f"{name}: this Pillow opens no AVIF; run `pip install -U pillow`.")
    try:
        image = Image.open(BytesIO(data), formats=[kind])
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise _too_many(name, f"{int(count[0]):,}" if count else "too many") from error
    require_size(image.size, name)
    return image


def _open_heif(data: bytes, name: str) -> "Image":
    """Upright, as the decoder leaves it."""
    require_heif(name)
    import pillow_heif

    primary = pillow_heif.open_heif(BytesIO(data))
    require_size(primary.size, name)
    image: Image = primary.to_pillow()
    return image


def require_size(size: tuple[int, int], name: str) -> None:
    """ImageError for an image without pixels, or with more than can be decoded in good faith."""
    width, height = size
    if width * height > MOST_PIXELS:
        raise _too_many(name, f"{width:,} x {height:,}")
    if width * height < 1:
        raise ImageError(f"{name}: an image of {width} x {height} pixels, expected at least 1 x 1.")


def _too_many(name: str, count: str) -> ImageError:
    return ImageError(
        f"{name}: an image of {count} pixels, expected at most {MOST_PIXELS:,}; make it smaller."
    )


@contextmanager
def reading(name: str, data: bytes = b"") -> Iterator[None]:
    """A stretch in which Pillow reads: all that it raises becomes an ImageError, and it says
    nothing itself.

    On broken bytes it raises errors of a dozen types, SyntaxError and MemoryError among them; its
    warnings are about what does not change the pixels.
    """
    logger, silent = logging.getLogger("PIL"), logging.NullHandler()
    logger.addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DiffGemmaError:
        raise
    except Exception as error:
        kind = format_of(data[:HEAD_BYTES])
        what = f"{NAMES.get(kind, kind)} image" if kind else "image"
        raise ImageError(
            f"{name}: a broken or incomplete {what}{_reason(error)}; save or send it again."
        ) from error
    finally:
        logger.removeHandler(silent)


def _reason(error: Exception) -> str:
    said = one_line(error)
    return f" ({shown(said, 80)})" if said and "BytesIO" not in said else ""


def _other(data: bytes) -> str:
    """The end of the line about bytes of no format that is read here."""
    if not data:
        return f"the file is empty, expected an image: {READABLE}."
    if is_video(data[:HEAD_BYTES]):
        return "a video, expected an image; give it as a video."
    return f"no image that can be read here, expected {READABLE}."


def is_video(head: bytes) -> bool:
    """True for the first bytes of an mp4, mov, mkv, webm or avi file."""
    return container_of(head) is not None


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that a video's first bytes announce; None for all else."""
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "mov" if head[4:8] in MOV_BOXES and format_of(head) is None else None
