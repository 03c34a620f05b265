"""The kinds of attachments that can be read here: those of the extras that are installed."""

from importlib.util import find_spec

from ..images.libraries import require_av, require_heif, require_pillow

IMAGE_TYPES = frozenset(
    f"image/{kind}" for kind in ("png", "jpeg", "webp", "gif", "tiff", "bmp", "avif")
)
HEIC_TYPES = frozenset({"image/heic", "image/heif"})
VIDEO_TYPES = frozenset(
    f"video/{kind}" for kind in ("mp4", "quicktime", "webm", "x-matroska", "x-msvideo")
)


def readable_types() -> frozenset[str]:
    """MIME types for which the libraries are there; they are looked for, not imported."""
    if find_spec("PIL") is None:
        return frozenset()
    heic = HEIC_TYPES if find_spec("pillow_heif") else frozenset[str]()
    return IMAGE_TYPES | heic | (VIDEO_TYPES if find_spec("av") else frozenset[str]())


def require_readable(kind: str) -> None:
    """ImageError where a library is missing for this MIME type, with the extra that brings it."""
    if kind in IMAGE_TYPES | HEIC_TYPES | VIDEO_TYPES:
        require_pillow()
    if kind in HEIC_TYPES:
        require_heif("the attachment")
    if kind in VIDEO_TYPES:
        require_av("the attachment")
