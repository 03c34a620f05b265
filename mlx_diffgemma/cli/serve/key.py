"""The key of a server, read from a file, the environment or an option."""

import os
import shlex
import stat
from pathlib import Path

from ...errors import ServeError
from ..answer.prompt import read_given_bytes
from ..options import STANDARD_INPUT
from ..terminal.streams import say
from .options import AccessOptions

VARIABLE = "MLX_DIFFGEMMA_API_KEY"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_key(given: AccessOptions) -> bytes | None:
    """The key that clients have to send; None where none is asked for.

    FileError for a file that cannot be read, ServeError for a text that is no key. A file that
    others of this machine can read is warned of.
    """
    if given.api_key is not None:
        say(f"warning: --api-key shows in `ps`; --api-key-file FILE or ${VARIABLE} does not.")
        return _checked(given.api_key.encode(), "--api-key")
    if (file := given.api_key_file) is not None:
        key = _checked(read_given_bytes(file, "the key").strip(), str(file))
        _warn_of_readers(file)
        return key
    if (named := os.environ.get(VARIABLE)) is not None:
        return _checked(named.strip().encode("utf-8", "surrogateescape"), f"${VARIABLE}")
    return None


def key_shown(given: AccessOptions) -> str | None:
    """The key as a shell writes it, without showing it; None where there is no key."""
    if given.api_key is not None or given.api_key_file == STANDARD_INPUT:
        return "KEY"
    if given.api_key_file is not None:
        return f"$(cat {shlex.quote(str(given.api_key_file))})"
    return f"${VARIABLE}" if VARIABLE in os.environ else None


def _checked(key: bytes, place: str) -> bytes:
    if not key:
        raise ServeError(f"{place} is empty, expected a key; `openssl rand -hex 24` makes one.")
    if not all(0x21 <= byte <= 0x7E for byte in key):
        raise ServeError(
            f"{place} has a key with blanks, line breaks or letters beyond ASCII, which no HTTP "
            "header holds; `openssl rand -hex 24` makes one."
        )
    return key


def _warn_of_readers(file: Path) -> None:
    """Warn where others of this machine can read a file."""
    try:
        mode = os.stat(file).st_mode
    except OSError:
        return
    if stat.S_ISREG(mode) and mode & OTHERS:
        mend = f"chmod 600 {shlex.quote(str(file))}"
        say(f"warning: others can read {file}; `{mend}` keeps the key to yourself.")
