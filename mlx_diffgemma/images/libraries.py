"""Pillow, pillow-heif and PyAV, which a user may lack: looked for where they are needed."""

from importlib import import_module

from ..errors import ImageError


def require_pillow() -> None:
    """ImageError where Pillow, without which no image is opened or resized, cannot be imported."""
    _require("PIL.Image", "images need Pillow", "image")


def require_heif(name: str) -> None:
    """ImageError where pillow-heif, which opens iPhone photos, cannot be imported."""
    _require("pillow_heif", f"{name}: a HEIC image, which needs pillow-heif", "image")


def require_av(name: str) -> None:
    """ImageError where PyAV, which decodes video files, cannot be imported."""
    _require("av", f"{name}: a video file, which needs PyAV", "video")


def _require(module: str, need: str, extra: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        found = "it is not installed" if _absent(error, package) else f"it is broken ({error})"
        install = f'pip install "mlx-diffgemma[{extra}]"'
        raise ImageError(f"{need}, and {found}; run `{install}`.") from error


def _absent(error: ImportError, package: str) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(package)
