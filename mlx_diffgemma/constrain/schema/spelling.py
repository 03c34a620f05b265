"""How values are written: as JSON, or as the arguments of a tool call."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ..patterns import ANY, Chars, Mark, Pattern, Seq, Text, Times, seq
from .strings import CHARACTER, free_string, quoted

SPACE = Times(Chars.of(" \t\n\r"))
NO_SPACE = Seq(())
ANY_NAME = seq('"', Times(CHARACTER), '"')
QUOTE = Mark('<|"|>')
SYNTAX = "{}[]:,"  # what ends a bare name


class Spelling(Protocol):
    """The parts in which the ways to write a value differ."""

    @property
    def space(self) -> Pattern:
        """What may stand between two parts."""

    @property
    def any_name(self) -> Pattern | None:
        """A member's name that may be any text; None where such names cannot be written."""

    @property
    def unwritable(self) -> str | None:
        """What no string can hold; None where any text can be written."""

    def string(self, content: Pattern) -> Pattern:
        """A string whose characters follow a pattern."""

    def free_string(self, least: int, most: int | None) -> Pattern:
        """Any string of so many characters."""

    def name(self, name: str) -> Pattern | None:
        """A member's name; None where it cannot be written."""

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Names in the order in which members are written."""


@dataclass(frozen=True)
class Json:
    """JSON; white space is free, since a model breaks and indents lines as it has learnt to."""

    space: Pattern = SPACE
    any_name: Pattern | None = ANY_NAME
    unwritable: str | None = None

    def string(self, content: Pattern) -> Pattern:
        """A string in quotes, escaped."""
        return quoted(content)

    def free_string(self, least: int, most: int | None) -> Pattern:
        """Any string in quotes."""
        return free_string(least, most)

    def name(self, name: str) -> Pattern | None:
        """A name in quotes."""
        return quoted(Text(name))

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Names in the schema's order."""
        return list(names)


@dataclass(frozen=True)
class Call:
    """Arguments of a call: names bare and sorted, strings as they are between two markers.

    Free names are not possible: a call that has a name twice is none.
    """

    space: Pattern = NO_SPACE
    any_name: Pattern | None = None
    unwritable: str | None = QUOTE.name

    def string(self, content: Pattern) -> Pattern:
        """A text between two markers."""
        return seq(QUOTE, content, QUOTE)

    def free_string(self, least: int, most: int | None) -> Pattern:
        """Any text between two markers."""
        return self.string(Times(ANY, least, most))

    def name(self, name: str) -> Pattern | None:
        """A name as it is; None where the reader of calls would read another."""
        bare = name and name == name.strip() and not set(name) & set(SYNTAX)
        return Text(name) if bare and QUOTE.name not in name else None

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Names in alphabetical order, as templates sort them: in upper and lower case alike."""
        return sorted(names, key=str.lower)


JSON, CALL = Json(), Call()
