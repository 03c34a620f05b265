"""Choices that `profile --tune` found, kept in ~/.config/mlx-diffgemma/tune.json.

    {"schema": 1, "tuned": {PLACE: {"prefill_chunk": 1024, ...}}}

PLACE names chip, system, versions and the model, so that choices count only where they were timed.
"""

import errno
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import ProfileError, SettingsError, one_line
from .choices import Choices
from .files import own_file, read_json, replace_file, require_replaceable

SCHEMA = 1
AGAIN = "remove it, and tune again with `mlx-diffgemma profile --tune`"


def tuning_file() -> Path | None:
    """The file of the choices; None without a home."""
    return own_file("XDG_CONFIG_HOME", ".config", "tune.json")


def recall(place: Callable[[], str]) -> Choices | None:
    """The choices tuned for a place, None where there are none; ProfileError for a broken file.

    The place is asked for only where anything is tuned: naming it reads every kernel's source.
    """
    file = tuning_file()
    tuned = {} if file is None else _read(file)
    return tuned.get(place()) if tuned else None


def require_storable() -> Path:
    """The file, found readable and writable before anything is measured; else ProfileError."""
    file = tuning_file()
    if file is None:
        raise ProfileError("there is no home to keep choices in; set $XDG_CONFIG_HOME.")
    _read(file)
    try:
        require_replaceable(file)
    except OSError as error:
        raise _unwritable(file, error) from None
    return file


def store(file: Path, place: str, choices: Choices) -> None:
    """Keeps `choices` for `place`; the engine's own behaviour takes an earlier entry away."""
    tuned = _read(file)
    if tuned.pop(place, Choices()) == choices:
        return
    if choices != Choices():
        tuned[place] = choices
    plain = {name: asdict(entry) for name, entry in tuned.items()}
    try:
        replace_file(file, json.dumps({"schema": SCHEMA, "tuned": plain}, indent=1) + "\n")
    except OSError as error:
        raise _unwritable(file, error) from None


def _read(file: Path) -> dict[str, Choices]:
    try:
        content = read_json(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        if error.errno == errno.ENOTDIR:  # found when it is written
            return {}
        raise ProfileError(f"{file}: {error.strerror or one_line(error)}; {AGAIN}.") from None
    except ValueError as error:
        raise ProfileError(f"{file} is not JSON ({one_line(error)}); {AGAIN}.") from None
    return _parsed(file, content)


def _parsed(file: Path, content: Any) -> dict[str, Choices]:
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA or not isinstance(content.get("tuned"), dict):
        raise ProfileError(f"{file} has schema {schema!r}, expected {SCHEMA}; {AGAIN}.")
    try:
        return {place: Choices.from_json(entry) for place, entry in content["tuned"].items()}
    except SettingsError as error:
        raise ProfileError(f"{file}: {str(error).rstrip('.')}; {AGAIN}.") from None


def _unwritable(file: Path, error: OSError) -> ProfileError:
    said = error.strerror or one_line(error)
    return ProfileError(f"{file} cannot be written: {said}; set $XDG_CONFIG_HOME.")
