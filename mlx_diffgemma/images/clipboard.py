"""Images from the clipboard: a picture that was copied, or files that were copied in Finder.

Pillow asks osascript on macOS, wl-paste or xclip on Linux. On macOS it would take a copied file's
icon for the picture, so files are asked for first.
"""

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import ImageError, one_line

EMPTY = "the clipboard holds no picture; copy one, or name a file"
LINUX_TOOLS = "reading the clipboard needs wl-paste (Wayland) or xclip (X11); install it"
SECONDS = 20.0  # that a program which owns the clipboard may take
FAST = 1  # zlib's level: the picture is written to be read once

FILES = """
ObjC.import("AppKit");
$.NSPasteboard.generalPasteboard.pasteboardItems.js
    .map(item => item.stringForType("public.file-url"))
    .filter(url => url.js)
    .map(url => $.NSURL.URLWithString(url).filePathURL.path.js)
    .join("\\n");
"""
"""JavaScript for osascript: the path of each file on the pasteboard, a line each."""


def clipboard_images() -> list[Path | bytes]:
    """The files that were copied, or the one picture as PNG; ImageError where there is neither."""
    return list(_files()) or [_picture()]


def _files() -> list[Path]:
    """The files copied in Finder; none on other systems."""
    if sys.platform != "darwin":
        return []
    command = ["osascript", "-l", "JavaScript", "-e", FILES]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
    return [Path(line) for line in lines if line.startswith("/")] if done.returncode == 0 else []


def _picture() -> bytes:
    content = BytesIO()
    if (picture := _grabbed()) is None:
        raise ImageError(f"{EMPTY}.")
    picture.save(content, "PNG", compress_level=FAST)
    return content.getvalue()


def _grabbed() -> Any:
    """Pillow's image of the clipboard; None where it holds none."""
    try:
        from PIL import ImageGrab

        found = ImageGrab.grabclipboard()
    except NotImplementedError:
        raise ImageError(f"{LINUX_TOOLS}, or name a file.") from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ImageError(
            f"the clipboard cannot be read ({one_line(error) or type(error).__name__}); name a file."
        ) from error
    return None if isinstance(found, list) else found
