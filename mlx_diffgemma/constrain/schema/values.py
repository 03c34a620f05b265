"""Values of every kind as patterns, in a spelling."""

import json
from collections.abc import Iterable, Mapping, Sequence

from ...errors import ConstraintError, brief, shown
from ..patterns import MAX_DEPTH, Fields, OneOf, Pattern, Seq, Text, Times, either, seq
from .numbers import Bounds, number
from .spelling import Spelling

FREE_DEPTH = 2  # of lists and objects in a value that a schema says nothing about
Member = tuple[str, Pattern, bool]
"""A name, the pattern of its value, and True where it is needed."""


def literal(value: object, spelling: Spelling, at: str, depth: int = 0) -> Pattern:
    """One value, an object's members in the spelling's order; `at`: its place, for errors."""
    at = shown(at)
    if depth > MAX_DEPTH:
        raise ConstraintError(f"{at} is nested more than {MAX_DEPTH} deep; flatten it.")
    if isinstance(value, str):
        return _text(value, spelling, at)
    if isinstance(value, Mapping):
        members = [
            (name, literal(inner, spelling, f"{at}/{name}", depth + 1), True)
            for name, inner in value.items()
        ]
        return an_object(members, spelling, at)
    if isinstance(value, list | tuple):
        inner = enumerate(value)
        return a_list([literal(v, spelling, f"{at}/{i}", depth + 1) for i, v in inner], spelling)
    try:
        return Text(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise ConstraintError(f"{at} is {brief(value)}, expected a value of JSON.") from None


def _text(value: str, spelling: Spelling, at: str) -> Pattern:
    closing = spelling.unwritable
    if closing and closing in value:
        raise ConstraintError(f"{at} has {closing}, which ends a string of a call; leave it out.")
    return spelling.string(Text(checked_text(value, at)))


def checked_text(value: object, at: str) -> str:
    """A text that UTF-8 can write; ConstraintError for anything else."""
    if not isinstance(value, str):
        raise ConstraintError(f"{at} is {brief(value)}, expected a text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConstraintError(
            f"{at} has U+{ord(value[error.start]):04X} at character {error.start}, expected valid "
            "Unicode; half a surrogate pair is no character."
        ) from None
    return value


def free_value(spelling: Spelling, depth: int = FREE_DEPTH) -> Pattern:
    """Any value whose lists and objects are at most `depth` deep."""
    plain = either(spelling.free_string(0, None), number(Bounds()), "true", "false", "null")
    if depth == 0:
        return plain
    inner = free_value(spelling, depth - 1)
    parts = [plain, many(inner, 0, None, "[]", spelling)]
    if (free := free_object(inner, spelling)) is not None:
        parts.append(free)
    return OneOf(tuple(parts))


def free_object(value: Pattern, spelling: Spelling) -> Pattern | None:
    """An object of any names; None where the spelling has no such names."""
    if spelling.any_name is None:
        return None
    return many(_member(spelling.any_name, value, spelling), 0, None, "{}", spelling)


def an_object(members: Iterable[Member], spelling: Spelling, at: str) -> Pattern:
    """An object with these members; those that are not needed may be absent."""
    given = {name: (value, needed) for name, value, needed in members}
    parts: list[tuple[Pattern, bool]] = []
    for name in spelling.ordered(given):
        if (written := spelling.name(name)) is None:
            raise ConstraintError(
                f"{at} has the name {brief(name)}, which a call cannot hold; name it by letters, "
                "digits and _."
            )
        value, needed = given[name]
        parts.append((_member(written, value, spelling), needed))
    return _bracketed(parts, "{}", spelling)


def a_list(items: Sequence[Pattern], spelling: Spelling) -> Pattern:
    """A list of exactly these items."""
    return _bracketed([(item, True) for item in items], "[]", spelling)


def many(item: Pattern, least: int, most: int | None, brackets: str, spelling: Spelling) -> Pattern:
    """Equal items in brackets, `least` to `most` of them."""
    space = spelling.space
    if most == 0:
        return seq(brackets[0], space, brackets[1])
    further = Times(
        seq(",", space, item, space), max(0, least - 1), None if most is None else most - 1
    )
    inside = seq(item, space, further)
    return seq(brackets[0], space, inside if least else Times(inside, 0, 1), brackets[1])


def _member(name: Pattern, value: Pattern, spelling: Spelling) -> Pattern:
    return seq(name, spelling.space, ":", spelling.space, value)


def _bracketed(parts: Sequence[tuple[Pattern, bool]], brackets: str, spelling: Spelling) -> Pattern:
    fields = tuple((Seq((part, spelling.space)), needed) for part, needed in parts)
    separator = seq(",", spelling.space)
    return seq(brackets[0], spelling.space, Fields(fields, separator), brackets[1])
