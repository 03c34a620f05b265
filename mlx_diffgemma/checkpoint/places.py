"""Objects in a checkpoint's JSON files, which know their place: an error names file and key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, brief

MOST_KEY = 120  # characters of a key that are shown


@dataclass(frozen=True)
class Place:
    """The place of a value: a file of the checkpoint, and the key with those above it."""

    file: Path
    key: str

    def __str__(self) -> str:
        key = self.key if self.key.isprintable() else repr(self.key)
        return f"{self.file}: {key if len(key) <= MOST_KEY else key[:MOST_KEY] + '...'}"


@dataclass(frozen=True)
class Section:
    """An object in a JSON file of the checkpoint."""

    file: Path
    values: Mapping[str, Any]
    above: str = ""  # the keys that lead to it, each with its dot

    def __str__(self) -> str:
        return str(Place(self.file, self.above[:-1])) if self.above else str(self.file)

    def place(self, key: str) -> Place:
        """The place of a value of this object."""
        return Place(self.file, f"{self.above}{key}")

    def section(self, key: str) -> "Section":
        """The object under a key, an empty one where it is absent or null; else CheckpointError."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise CheckpointError(f"{self.place(key)} is {brief(value)}, expected an object.")
        return Section(self.file, value or {}, f"{self.above}{key}.")
