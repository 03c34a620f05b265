"""A user's own defaults, in ~/.config/mlx-diffgemma/config.toml: `max_tokens = 400`.

Every key is the name of an option. A file with anything that is no such default is refused whole:
a value that counts for nothing would look like one that does.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import ConfigFileError, brief, one_line, shown
from .files import decode_utf8, own_file, read_bytes

KEYS: Mapping[str, type] = {
    "model": str,
    "system": str,
    "max_tokens": int,
    "think": bool,
    "seed": int,
    "mode": str,
    "theme": str,
    "gentle": bool,
}
"""The keys, each the field of an option, and the type of its value."""

EXPECTED = {str: "a text in quotes", int: "a whole number", bool: "true or false"}
PLACE = re.compile(r" ?\(at (?:line (\d+), column (\d+)|end of document)\)")  # as tomllib ends
ASSIGNED = re.compile(r"\s*([\w.\"'-]+)\s*=")
MEND = {
    "Invalid value": 'a text stands in quotes, as in system = "Be brief."',
    "Cannot overwrite a value": "the key is there twice; take one of them out.",
}
"""What tomllib says -> what to do about it."""


@dataclass(frozen=True)
class UserConfig:
    """The file, None without a home; its text, None where there is no file; and its values."""

    file: Path | None
    text: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """The line of a key that the file has, as an error begins with it."""
        return f"{self.file} line {_line(self.text or '', key)}"


def config_file() -> Path | None:
    """Path of the file, which need not be there; None without a home."""
    return own_file("XDG_CONFIG_HOME", ".config", "config.toml")


def read_user_config() -> UserConfig:
    """The file's content; ConfigFileError names file, line and key of what is wrong with it."""
    if (file := config_file()) is None:
        return UserConfig(None)
    try:
        text = decode_utf8(read_bytes(file))
    except (FileNotFoundError, NotADirectoryError):
        return UserConfig(file)
    except OSError as error:
        raise ConfigFileError(f"{file} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise ConfigFileError(f"{file} is {error}; save it as UTF-8.") from None
    config = UserConfig(file, text, _parsed(file, text))
    for key, value in config.values.items():
        _require(config, key, value)
    return config


def _parsed(file: Path, text: str) -> dict[str, Any]:
    """The file as TOML; ConfigFileError with line, column and key where it is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigFileError(f"{file}: lists too deep inside each other; mend it.") from None
    except ValueError as error:
        raise ConfigFileError(_broken(file, text, one_line(error))) from None


def _broken(file: Path, text: str, said: str) -> str:
    """The line on a file that is no TOML, from what tomllib says of it."""
    lines = text.splitlines() or [""]
    at = PLACE.search(said)
    row, column = (int(at[1]), int(at[2])) if at and at[1] else (len(lines), len(lines[-1]) + 1)
    found = ASSIGNED.match(lines[min(row, len(lines)) - 1])
    key = f" {shown(found[1], 40)}:" if found else ""
    wrong = shown(PLACE.sub("", said), 120)
    return f"{file} line {row}, column {column}:{key} {wrong}; {MEND.get(wrong, 'mend it.')}"


def _require(config: UserConfig, key: str, value: Any) -> None:
    """ConfigFileError for a key that there is not, with the nearest, or a value of another type."""
    place = config.place
    if (kind := KEYS.get(key)) is None:
        near = get_close_matches(key.replace("-", "_").lower(), KEYS, 1)
        ask = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(KEYS)}."
        raise ConfigFileError(f"{place(key)}: {shown(key, 60)} is no key of this file; {ask}")
    if type(value) is not kind:
        expected = EXPECTED[kind]
        raise ConfigFileError(f"{place(key)}: {key} is {_written(value)}, expected {expected}.")
    if key == "model" and not value:
        raise ConfigFileError(f"{place(key)}: {key} is empty, expected a folder or a repository.")


def _written(value: Any) -> str:
    """A value as TOML has it, where that is no more than Python's way in small letters."""
    if isinstance(value, dict):
        return "a table"
    return str(value).lower() if isinstance(value, bool) else brief(value)


def _line(text: str, key: str) -> int:
    """The number of the line on which a key's value begins.

    It stands behind the longest beginning of the file that is TOML without the key: a line of a
    text over several lines may look like one that sets a key.
    """
    lines = text.splitlines(keepends=True)
    begins = 0
    for count in range(1, len(lines) + 1):
        try:
            if key in tomllib.loads("".join(lines[:count])):
                break
            begins = count
        except ValueError:  # in the middle of a value
            continue
    return begins + 1
