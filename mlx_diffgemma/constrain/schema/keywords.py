"""Keywords of JSON Schema: which there are, and their values checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConstraintError, brief
from .numbers import MAX_DIGITS, Bounds
from .values import checked_text

Members = Mapping[str, Any]
"""The members of a schema that is an object."""

SAYS_NOTHING = frozenset(
    {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs"}
    | {"definitions", "deprecated", "readOnly", "writeOnly", "discriminator"}
)
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
KEYWORDS: Mapping[str, Sequence[str]] = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": BOUNDS,
    "number": BOUNDS,
    "boolean": (),
    "null": (),
}
PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": Mapping,
    "array": (list, tuple),
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def kinds(schema: Members, at: str) -> list[str]:
    """The types that a schema names, or the one whose keywords it has."""
    if "type" not in schema:
        return [_implied(schema, at)]
    given = schema["type"]
    named = [given] if isinstance(given, str) else given
    known = ", ".join(KEYWORDS)
    if not isinstance(named, list | tuple) or not named:
        raise ConstraintError(f"{at} has type {brief(given)}, expected of {known} one or a list.")
    for kind in named:
        if not isinstance(kind, str) or kind not in KEYWORDS:
            raise ConstraintError(f"{at} has type {brief(kind)}, expected {known}.")
    return [kind for kind in dict.fromkeys(named) if kind != "integer" or "number" not in named]


def _implied(schema: Members, at: str) -> str:
    for kind in ("object", "array", "string", "number"):
        if set(schema) <= set(KEYWORDS[kind]):
            return kind
    known = set[str]().union(*KEYWORDS.values())
    if foreign := ", ".join(sorted(brief(name) for name in set(schema) - known)):
        raise ConstraintError(f"{at} has {foreign}, which is not enforced; leave it out.")
    names = ", ".join(sorted(map(brief, schema)))
    raise ConstraintError(f"{at} has {names} and no type; add one that they belong to.")


def is_of(value: object, named: Sequence[str]) -> bool:
    """True for a value of one of some types; true and false are no numbers."""
    if isinstance(value, bool):
        return "boolean" in named
    whole = isinstance(value, float) and value.is_integer() and "integer" in named
    return whole or any(isinstance(value, PYTHON_TYPES[kind]) for kind in named)


def parts(schema: Members, name: str, at: str) -> Sequence[Any]:
    """The entries of a keyword that is a list; ConstraintError where it is none, or empty."""
    value = schema[name]
    if not isinstance(value, list | tuple):
        raise ConstraintError(f"{at} has {name} {brief(value)}, expected a list.")
    if not value:
        raise ConstraintError(f"{at} has an empty {name}, which nothing satisfies; give an entry.")
    return value


def properties(schema: Members, at: str) -> Members:
    """The named members of an object; none where the schema has no `properties`."""
    value = schema.get("properties", {})
    if not isinstance(value, Mapping):
        raise ConstraintError(f"{at} has properties {brief(value)}, expected an object.")
    for name in value:
        checked_text(name, f"{at} properties: a name")
    return value


def required(schema: Members, at: str) -> set[str]:
    """The names of members that may not be absent."""
    value = schema.get("required", [])
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConstraintError(f"{at} has required {brief(value)}, expected a list of names.")
    return set(value)


def counts(schema: Members, low: str, high: str, at: str) -> tuple[int, int | None]:
    """The least and the most of what is counted."""
    least, most = schema.get(low, 0), schema.get(high)
    for name, value in ((low, least), (high, most)):
        if value is not None and (type(value) is not int or value < 0):
            raise ConstraintError(
                f"{at} has {name} {brief(value)}, expected a whole number from 0."
            )
    if least is None:
        raise ConstraintError(f"{at} has {low} null, expected a whole number from 0.")
    if most is not None and most < least:
        raise ConstraintError(f"{at} has {low} {least} above {high} {most}; exchange them.")
    return least, most


def bounds(schema: Members, at: str) -> Bounds:
    """The bounds of a number; ConstraintError where no number lies between them."""
    given = {name: _whole(schema[name], f"{at} has {name}") for name in BOUNDS if name in schema}
    low, high = given.get("minimum"), given.get("maximum")
    above, below = given.get("exclusiveMinimum"), given.get("exclusiveMaximum")
    low_open = above is not None and (low is None or above >= low)
    high_open = below is not None and (high is None or below <= high)
    found = Bounds(above if low_open else low, below if high_open else high, low_open, high_open)
    if found.low is not None and found.high is not None:
        crossed = found.low >= found.high if low_open or high_open else found.low > found.high
        if crossed:
            said = ", ".join(f"{name} {value}" for name, value in given.items())
            raise ConstraintError(f"{at} has {said}, between which no number lies; exchange them.")
    return found


def _whole(value: object, what: str) -> int:
    """A bound; values that a number of MAX_DIGITS digits cannot pass are refused."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not isinstance(value, int | float):
        raise ConstraintError(f"{what} {brief(value)}, expected a whole number.")
    if abs(value) >= 10**MAX_DIGITS:
        raise ConstraintError(
            f"{what} {brief(value)}, expected one of at most {MAX_DIGITS} digits; leave it out."
        )
    return int(value)
