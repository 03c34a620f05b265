"""The fields of a request, read one by one: each has its path, and a refusal names it.

Unknown fields are nobody's business: clients send many. A field that is null is not given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ...errors import brief
from ..refusal import Refusal

T = TypeVar("T")


@dataclass(frozen=True)
class Fields:
    """An object of a request; path: where it stands, "" for the request itself."""

    value: Mapping[str, Any]
    path: str = ""

    def at(self, name: str) -> str:
        """The path of a field: `messages[0].content`."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """True where a field is given, and not null."""
        return self.value.get(name) is not None

    def wrong(self, name: str, expected: str) -> Refusal:
        """The refusal of a field's value."""
        got = f"is {brief(self.value[name])}" if name in self.value else "is missing"
        return invalid(self.at(name), f"{got}, expected {expected}.")

    def text(self, name: str) -> str | None:
        """A string, None where it is not given."""
        return self._of(name, str, "a string")

    def needed_text(self, name: str) -> str:
        """A string that has to be there."""
        if (found := self.text(name)) is None:
            raise self.wrong(name, "a string")
        return found

    def flag(self, name: str) -> bool | None:
        """True or false, None where it is not given."""
        return self._of(name, bool, "true or false")

    def whole(self, name: str) -> int | None:
        """A whole number, None where it is not given; 5.0 is one, as some clients write it."""
        found = self.value.get(name)
        if isinstance(found, float) and found.is_integer():
            return int(found)
        if found is None or (isinstance(found, int) and not isinstance(found, bool)):
            return found
        raise self.wrong(name, "a whole number")

    def number(self, name: str) -> float | None:
        """A finite number, None where it is not given."""
        found = self.value.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self.wrong(name, "a number")
        if isinstance(found, float) and not math.isfinite(found):
            raise self.wrong(name, "a finite number")
        return found

    def one_of(self, name: str, known: Sequence[str]) -> str | None:
        """One of some words, None where it is not given."""
        found = self.text(name)
        if found is None or found in known:
            return found
        raise self.wrong(name, either(known))

    def object(self, name: str) -> Fields | None:
        """An object, None where it is not given."""
        found = self._of(name, dict, "an object")
        return None if found is None else Fields(found, self.at(name))

    def needed_object(self, name: str) -> Fields:
        """An object that has to be there."""
        if (found := self.object(name)) is None:
            raise self.wrong(name, "an object")
        return found

    def objects(self, name: str) -> tuple[Fields, ...]:
        """The objects of a list, none where it is not given."""
        return tuple(objects_of(self._of(name, list, "a list") or (), self.at(name)))

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, or one string alone; None where it is not given."""
        found = self.value.get(name)
        if found is None:
            return None
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or any(not isinstance(each, str) for each in listed):
            raise self.wrong(name, "a string or a list of strings")
        return tuple(listed)

    def _of(self, name: str, kind: type[T], expected: str) -> T | None:
        found = self.value.get(name)
        if found is None or isinstance(found, kind):
            return found
        raise self.wrong(name, expected)


def objects_of(listed: Sequence[Any], path: str) -> Iterator[Fields]:
    """The objects of a list that stands at a path."""
    for number, each in enumerate(listed):
        if not isinstance(each, dict):
            raise invalid(f"{path}[{number}]", f"is {brief(each)}, expected an object.")
        yield Fields(each, f"{path}[{number}]")


def invalid(path: str, said: str) -> Refusal:
    """The refusal of what stands at a path."""
    return Refusal("invalid", f"{path} {said}", path)


def either(known: Sequence[str]) -> str:
    """Some words as a choice: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))


def fields_of(body: Any) -> Fields:
    """The fields of a whole request."""
    if isinstance(body, dict):
        return Fields(body)
    raise Refusal("invalid", f"the body is {brief(body)}, expected a JSON object.")
