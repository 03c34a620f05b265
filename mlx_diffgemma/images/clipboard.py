"""Images from the clipboard: a picture that was copied, or files that were copied in Finder.

Pillow asks osascript on macOS, wl-paste or xclip on Linux. On macOS it would take a copied file's
icon for the picture, so files are asked for first.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import ImageError, one_line
from .libraries import require_pillow

LINUX_TOOLS = "reading the clipboard needs wl-paste (Wayland) or xclip (X11); install it"
SECONDS = 20.0  # that a program which owns the clipboard may take

FILES = """
ObjC.import("AppKit");
$.NSPasteboard.generalPasteboard.pasteboardItems.js
    .map(item => item.stringForType("public.file-url"))
    .filter(url => url.js)
    .map(url => $.NSURL.URLWithString(url).filePathURL.path.js)
    .join("\\n");
"""
"""JavaScript for osascript: the path of each file on the pasteboard, a line each."""


def clipboard_images() -> list[Any]:
    """The paths of the files that were copied, or the one picture as a PIL image.

    ImageError where there is neither.
    """
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


def _picture() -> Any:
    require_pillow()
    from PIL import ImageGrab

    try:
        found = ImageGrab.grabclipboard()
    except NotImplementedError:
        raise ImageError(f"{LINUX_TOOLS}, or name a file.") from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = one_line(error) or type(error).__name__
        raise ImageError(f"the clipboard cannot be read ({said}); name a file.") from error
    if found is None or isinstance(found, list):
        raise ImageError("the clipboard holds no picture; copy one, or name a file.")
    return found
