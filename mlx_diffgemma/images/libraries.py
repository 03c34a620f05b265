"""Pillow, pillow-heif and PyAV, which a user may lack: looked for where they are needed."""

from ..errors import ImageError
from ..machine.libraries import require_library


def require_pillow() -> None:
    """ImageError where Pillow, without which no image is opened or resized, cannot be imported."""
    require_library("PIL.Image", "images need Pillow", "image", ImageError)


def require_heif(name: str) -> None:
    """ImageError where pillow-heif, which opens iPhone photos, cannot be imported."""
    need = f"{name}: a HEIC image, which needs pillow-heif"
    require_library("pillow_heif", need, "image", ImageError)


def require_av(name: str) -> None:
    """ImageError where PyAV, which decodes video files, cannot be imported."""
    require_library("av", f"{name}: a video file, which needs PyAV", "video", ImageError)
