"""A JSON schema read into the pattern of the values that it allows; the rest is refused by name.

Members follow the schema's order. Objects with `properties` are closed. A schema that says nothing
allows any value of limited depth. A place in a message is a JSON pointer.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from ...errors import ConstraintError, brief, shown
from ..compiling import check_cancelled
from ..dfa import Dfa, compile_pattern, disjoint
from ..patterns import MAX_DEPTH, OneOf, Pattern, Text, either
from ..regex import parse_regex, parse_search
from . import keywords
from .keywords import KEYWORDS, SAYS_NOTHING, Members
from .numbers import integer, number
from .spelling import JSON, Spelling
from .strings import FORMATS
from .values import a_list, an_object, free_object, free_value, literal, many

SCHEMA = "schema "
MOST_SECONDS = 10.0  # of reading one: those who wait behind it did not write it


@dataclass
class SchemaReader:
    """Reads one schema.

    root: the whole of it, which references look into; place: what messages call its root.
    """

    root: object
    spelling: Spelling = JSON
    place: str = f"{SCHEMA}#"
    sizes: dict[str, int] = field(default_factory=dict)  # "maxItems 40 at #/list": 40
    _known: dict[str, tuple[Pattern, int]] = field(default_factory=dict)  # reference -> its depth
    _open: list[str] = field(default_factory=list)  # references on the way here
    _began: float = field(default_factory=time.monotonic)
    _depth: int = 0
    _deepest: int = 0  # that was met, since the last reference was opened

    def pattern(self) -> Pattern:
        """The pattern of every value that is allowed; ConstraintError for what is not enforced."""
        return self._value(self.root, self.place)

    def _value(self, schema: Any, at: str) -> Pattern:
        at = shown(at)
        self._require_quick(at)
        if schema is True:
            return free_value(self.spelling)
        if not isinstance(schema, Mapping):
            raise ConstraintError(f"{at} is {brief(schema)}, expected an object.")
        self._depth += 1
        self._reach(self._depth, at)
        pattern = self._object_of(schema, at)
        self._depth -= 1
        return pattern

    def _object_of(self, schema: Members, at: str) -> Pattern:
        told = {name: value for name, value in schema.items() if name not in SAYS_NOTHING}
        if not told:
            return free_value(self.spelling)
        for name, read in self._whole().items():
            if name in told:
                self._require_alone(name, told, at)
                return read(told, at)
        kinds = keywords.kinds(told, at)
        allowed = {"type"}.union(*(KEYWORDS[kind] for kind in kinds))
        if unknown := sorted(brief(name) for name in set(told) - allowed):
            raise ConstraintError(
                f"{at} has {', '.join(unknown)}, which is not enforced for {', '.join(kinds)}; "
                "leave it out."
            )
        return OneOf(tuple(self._typed(kind, told, at) for kind in kinds))

    def _whole(self) -> dict[str, Callable[[Members, str], Pattern]]:
        """Keywords that say all there is to say, and what reads them."""
        return {
            "$ref": self._reference,
            "const": self._const,
            "enum": self._enum,
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "allOf": self._all_of,
        }

    def _require_alone(self, name: str, schema: Members, at: str) -> None:
        beside = {"type"} if name in ("enum", "const") else set()
        if others := sorted(brief(other) for other in set(schema) - {name} - beside):
            raise ConstraintError(f"{at} has {name} beside {', '.join(others)}; give one of them.")

    def _typed(self, kind: str, schema: Members, at: str) -> Pattern:
        match kind:
            case "null":
                return Text("null")
            case "boolean":
                return either("true", "false")
            case "string":
                return self._string(schema, at)
            case "integer":
                return integer(keywords.bounds(schema, at))
            case "number":
                return number(keywords.bounds(schema, at))
            case "array":
                return self._array(schema, at)
        return self._object(schema, at)

    def _string(self, schema: Members, at: str) -> Pattern:
        given = [name for name in ("pattern", "format") if name in schema]
        counted = [name for name in ("minLength", "maxLength") if name in schema]
        if len(given) + bool(counted) > 1:
            raise ConstraintError(f"{at} has {' and '.join(given + counted)}; give one of them.")
        if "pattern" in schema:
            found = parse_search(schema["pattern"], f"{at}/pattern")
            return self.spelling.string(found)
        if "format" in schema:
            return self.spelling.string(self._format(schema["format"], at))
        return self.spelling.free_string(*self._counts(schema, "minLength", "maxLength", at))

    def _format(self, name: object, at: str) -> Pattern:
        if not isinstance(name, str) or name not in FORMATS:
            known = ", ".join(FORMATS)
            raise ConstraintError(f"{at} has format {brief(name)}, expected {known}.")
        return parse_regex(FORMATS[name])

    def _array(self, schema: Members, at: str) -> Pattern:
        least, most = self._counts(schema, "minItems", "maxItems", at)
        if "prefixItems" not in schema:
            items = self._value(schema.get("items", True), f"{at}/items")
            return many(items, least, most, "[]", self.spelling)
        firsts = keywords.parts(schema, "prefixItems", at)
        if schema.get("items", False) is not False or least > len(firsts) or most is not None:
            raise ConstraintError(
                f"{at} has prefixItems beside items, minItems or maxItems; give one of them."
            )
        return a_list(self._all(firsts, f"{at}/prefixItems"), self.spelling)

    def _object(self, schema: Members, at: str) -> Pattern:
        named, needed = keywords.properties(schema, at), keywords.required(schema, at)
        if missing := sorted(map(brief, needed - set(named))):
            raise ConstraintError(
                f"{at} requires {', '.join(missing)}, which its properties do not describe; add it."
            )
        others = schema.get("additionalProperties", not named)
        if others is not False and not named:
            return self._free_object(others, f"{at}/additionalProperties")
        if not isinstance(others, bool):
            raise ConstraintError(
                f"{at} has properties beside additionalProperties; give one of them."
            )
        members = [
            (name, self._value(value, f"{at}/properties/{_pointer(name)}"), name in needed)
            for name, value in named.items()
        ]
        return an_object(members, self.spelling, at)

    def _free_object(self, value: Any, at: str) -> Pattern:
        found = free_object(self._value(value, at), self.spelling)
        if found is None:
            raise ConstraintError(
                f"{at} allows any names, of which a call may hold none twice: that cannot be "
                "enforced; list the object's properties."
            )
        return found

    def _reference(self, schema: Members, at: str) -> Pattern:
        name = schema["$ref"]
        if not isinstance(name, str) or not (name == "#" or name.startswith("#/")):
            raise ConstraintError(
                f"{at} refers to {brief(name)}, expected a place in the same schema, #/..."
            )
        if name in self._open:
            raise ConstraintError(
                f"{at} refers to itself through {shown(name)}; only schemas of finite depth can be "
                "enforced."
            )
        if name not in self._known:
            self._known[name] = self._opened(name, at)
        pattern, depth = self._known[name]
        self._reach(self._depth + depth, at)
        return pattern

    def _opened(self, name: str, at: str) -> tuple[Pattern, int]:
        """The pattern behind a reference, and how deep it is."""
        before, self._deepest = self._deepest, self._depth
        self._open.append(name)
        pattern = self._value(self._target(name, at), self.place.removesuffix("#") + shown(name))
        self._open.pop()
        depth = self._deepest - self._depth
        self._deepest = max(self._deepest, before)
        return pattern, depth

    def _reach(self, depth: int, at: str) -> None:
        self._deepest = max(self._deepest, depth)
        if depth > MAX_DEPTH:
            raise ConstraintError(f"{at} is nested more than {MAX_DEPTH} deep; flatten the schema.")

    def _target(self, name: str, at: str) -> Any:
        target: Any = self.root
        for part in unquote(name[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list | tuple) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            elif isinstance(target, Mapping) and key in target:
                target = target[key]
            else:
                raise ConstraintError(
                    f"{at} refers to {brief(name)}, which does not exist; add it to $defs."
                )
        return target

    def _const(self, schema: Members, at: str) -> Pattern:
        return self._literal(schema["const"], schema, f"{at}/const")

    def _enum(self, schema: Members, at: str) -> Pattern:
        values = keywords.parts(schema, "enum", at)
        self._sized("enum of", len(values), at)
        return OneOf(
            tuple(self._literal(v, schema, f"{at}/enum/{i}") for i, v in enumerate(values))
        )

    def _literal(self, value: object, schema: Members, at: str) -> Pattern:
        """A value, which has to be of the type that stands beside it."""
        self._require_quick(at)
        if "type" in schema and not keywords.is_of(value, kinds := keywords.kinds(schema, at)):
            raise ConstraintError(
                f"{at} is {brief(value)}, expected a value of type {', '.join(kinds)}."
            )
        return literal(value, self.spelling, at, self._depth)

    def _any_of(self, schema: Members, at: str) -> Pattern:
        return OneOf(tuple(self._all(keywords.parts(schema, "anyOf", at), f"{at}/anyOf")))

    def _one_of(self, schema: Members, at: str) -> Pattern:
        parts = self._all(keywords.parts(schema, "oneOf", at), f"{at}/oneOf")
        automata = list[Dfa]()
        for second, one in enumerate(map(compile_pattern, parts)):
            automata.append(one)
            for first in range(second):
                self._require_quick(f"{at}/oneOf")
                if not disjoint(automata[first], one):
                    raise ConstraintError(
                        f"{at}/oneOf: {first} and {second} allow a common value; use anyOf."
                    )
        return OneOf(tuple(parts))

    def _all_of(self, schema: Members, at: str) -> Pattern:
        values = keywords.parts(schema, "allOf", at)
        if len(values) != 1:
            raise ConstraintError(f"{at} has allOf of {len(values)} parts; merge them into one.")
        return self._value(values[0], f"{at}/allOf/0")

    def _all(self, schemas: Any, at: str) -> list[Pattern]:
        return [self._value(schema, f"{at}/{index}") for index, schema in enumerate(schemas)]

    def _require_quick(self, at: str) -> None:
        """ConstraintError where the schema has taken too long to come here."""
        check_cancelled()
        if time.monotonic() - self._began > MOST_SECONDS:
            raise ConstraintError(
                f"{at} is reached after more than {MOST_SECONDS:g} s, expected a schema that is "
                "read in less; shorten its lists and patterns, or use anyOf in place of oneOf."
            )

    def _counts(self, schema: Members, low: str, high: str, at: str) -> tuple[int, int | None]:
        least, most = keywords.counts(schema, low, high, at)
        self._sized(low, least, at)
        self._sized(high, most or 0, at)
        return least, most

    def _sized(self, keyword: str, size: int, at: str) -> None:
        """Remember what an error may advise to shorten."""
        if size > 1:
            self.sizes[f"{keyword} {size:,} at {at.removeprefix(SCHEMA)}"] = size


def _pointer(name: str) -> str:
    return shown(name.replace("~", "~0").replace("/", "~1"))
