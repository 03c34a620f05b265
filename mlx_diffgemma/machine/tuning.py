"""Choices that `profile --tune` found, kept in ~/.config/mlx-diffgemma/tune.json.

    {"schema": 1, "tuned": {PLACE: {"prefill_chunk": 1024, ...}}}

PLACE names chip, system, versions and the model, so that choices count only where they were timed.
An entry that this version cannot read costs only itself: its place is as if it had not been tuned,
and the entry stays in the file until its place is tuned again.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import ProfileError, SettingsError, one_line
from .choices import Choices
from .files import json_bytes, own_file, read_json, replace_file, require_replaceable

SCHEMA = 1
AGAIN = "remove it, and tune again with `mlx-diffgemma profile --tune`"


def tuning_file() -> Path | None:
    """The file of the choices; None without a home."""
    return own_file("XDG_CONFIG_HOME", ".config", "tune.json")


def recall(place: Callable[[], str]) -> Choices | None:
    """The choices tuned for a place; None where there are none that can be read.

    ProfileError where the whole file is broken. The place is asked for only where anything is
    tuned: naming it reads every kernel's source.
    """
    file = tuning_file()
    tuned = {} if file is None else _read(file)["tuned"]
    return _entry(tuned, place()) if tuned else None


def unreadable_entries(file: Path) -> list[str]:
    """The places whose entries count as none, each with what is wrong; ProfileError as `recall`."""
    found = []
    for place, entry in _read(file)["tuned"].items():
        try:
            Choices.from_json(entry)
        except SettingsError as error:
            found.append(f"{place}: {error}")
    return found


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
    """Keeps `choices` for `place`; the engine's own behaviour takes an earlier entry away.

    All else in the file stays as it is, readable here or not.
    """
    content = _read(file)
    tuned = content["tuned"]
    before = dict(tuned)
    tuned.pop(place, None)
    if choices != Choices():
        tuned[place] = asdict(choices)
    if tuned == before:
        return
    try:
        replace_file(file, json_bytes(content, indent=1))
    except OSError as error:
        raise _unwritable(file, error) from None


def _entry(tuned: Mapping[str, Any], place: str) -> Choices | None:
    try:
        return Choices.from_json(tuned[place])
    except (KeyError, SettingsError):
        return None


def _read(file: Path) -> dict[str, Any]:
    """The file's object, its entries unread; one without entries where there is no file."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        return {"schema": SCHEMA, "tuned": {}}
    except OSError as error:
        if error.errno == errno.ENOTDIR:  # found when it is written
            return {"schema": SCHEMA, "tuned": {}}
        raise ProfileError(f"{file}: {error.strerror or one_line(error)}; {AGAIN}.") from None
    except ValueError as error:
        raise ProfileError(f"{file} is not JSON ({one_line(error)}); {AGAIN}.") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA or not isinstance(content.get("tuned"), dict):
        raise ProfileError(f"{file} has schema {schema!r:.40}, expected {SCHEMA}; {AGAIN}.")
    return dict(content)


def _unwritable(file: Path, error: OSError) -> ProfileError:
    said = error.strerror or one_line(error)
    return ProfileError(f"{file} cannot be written: {said}; set $XDG_CONFIG_HOME.")
