"""JSON schemas as patterns of the JSON texts they allow; what is not enforced is refused by name.

Members follow the schema's order. White space is `[ \\t\\n\\r]*` wherever JSON has it, since a model
writes its own line breaks and indents: forbidding them costs accuracy, allowing them costs no state.
Objects are closed unless `additionalProperties` is a schema and there are no `properties`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConstraintError
from .dfa import compile_pattern, disjoint
from .patterns import Chars, Fields, OneOf, Pattern, Seq, Text, Times, either, seq
from .regex import parse_search

SPACE = Times(Chars.of(" \t\n\r"))
DIGIT, HEX = Chars(((48, 57),)), Chars(((48, 57), (65, 70), (97, 102)))
MAX_DIGITS, MAX_EXPONENT_DIGITS = 18, 2  # numbers end, and no reader makes them infinite
FREE_DEPTH = 2  # of values a schema says nothing about

PLAIN = Chars(((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x10FFFF)))
_HEX_NOT_D = Chars(((48, 57), (65, 67), (69, 70), (97, 99), (101, 102)))
_UNIT = either(
    seq(_HEX_NOT_D, HEX, HEX, HEX),
    seq(Chars.of("dD"), Chars(((48, 55),)), HEX, HEX),
    seq(
        Chars.of("dD"),
        Chars.of("89abAB"),
        HEX,
        HEX,
        "\\u",
        Chars.of("dD"),
        Chars.of("cdefCDEF"),
        HEX,
        HEX,
    ),
)  # half a surrogate pair is no character
ESCAPE = seq("\\", either(Chars.of('"\\/bfnrt'), seq("u", _UNIT)))
CHARACTER = either(PLAIN, ESCAPE)
COUNTED = either(
    PLAIN, seq("\\", Chars.of('"\\/bfnrt'))
)  # \u is left out where every character costs states
SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

FORMATS = {
    "date": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
    "time": r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$",
    "date-time": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$",
    "uuid": r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "email": r"^[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$",
    "ipv4": r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$",
}
SAYS_NOTHING = {
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "deprecated",
    "readOnly",
    "writeOnly",
    "discriminator",
}
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
}
Schema = Mapping[str, Any] | bool


def schema_pattern(schema: Schema) -> Pattern:
    """The pattern of every JSON text a schema allows; ConstraintError names what cannot be enforced."""
    return _Reader(schema).value(schema, "#", ())


def literal(value: Any) -> Pattern:
    """One JSON value, members in its own order."""
    if isinstance(value, dict):
        return _object(
            [(seq(quoted(k), SPACE, ":", SPACE, literal(v)), True) for k, v in value.items()]
        )
    if isinstance(value, list):
        return _listed([literal(item) for item in value])
    return Text(json.dumps(value, ensure_ascii=False, allow_nan=False))


def quoted(text: str) -> Pattern:
    return Text(json.dumps(text, ensure_ascii=False))


def free_value(depth: int = FREE_DEPTH) -> Pattern:
    """Any JSON value whose lists and objects are at most `depth` deep."""
    plain = either(string(CHARACTER), number(), "true", "false", "null")
    if depth == 0:
        return plain
    inner = free_value(depth - 1)
    return OneOf((plain, _many(inner, 0, None, "[]"), _many(_member(inner), 0, None, "{}")))


def string(inner: Pattern, least: int = 0, most: int | None = None) -> Pattern:
    return seq('"', Times(inner, least, most), '"')


def number() -> Pattern:
    fraction = seq(".", Times(DIGIT, 1, MAX_DIGITS))
    exponent = seq(
        Chars.of("eE"), Times(Chars.of("+-"), 0, 1), Times(DIGIT, 1, MAX_EXPONENT_DIGITS)
    )
    return seq(integer(None, None), Times(fraction, 0, 1), Times(exponent, 0, 1))


def integer(low: int | None, high: int | None) -> Pattern:
    """Whole numbers from low to high, without leading zeros."""
    top = 10**MAX_DIGITS - 1
    low, high = -top if low is None else max(low, -top), top if high is None else min(high, top)
    parts: list[Pattern] = []
    if low < 0:
        parts.append(seq("-", _naturals(max(1, -high), -low)))
    if high >= 0:
        parts.append(_naturals(max(0, low), high))
    return OneOf(tuple(parts))


def decimal(low: int | None, high: int | None, least_open: bool, most_open: bool) -> Pattern:
    """Decimals without exponent between two whole bounds, each of which may be open."""
    fraction = Times(seq(".", Times(DIGIT, 1, MAX_DIGITS)), 0, 1)
    zeros = Times(seq(".", Times(Text("0"), 1, MAX_DIGITS)), 0, 1)
    some = seq(
        ".", Times(Text("0"), 0, MAX_DIGITS - 1), Chars(((49, 57),)), Times(DIGIT, 0, MAX_DIGITS)
    )
    parts: list[Pattern] = []
    for sign, first, last, first_open, last_open in (
        ("", low, high, least_open, most_open),
        (
            "-",
            None if high is None else -high,
            None if low is None else -low,
            most_open,
            least_open,
        ),
    ):
        if last is not None and (last < 0 or (last == 0 and (last_open or sign))):
            continue
        negative_zero = sign and (first is None or first < 0 or (first == 0))
        start = 0 if first is None or first < 0 else first
        inside_open = (first_open and first is not None and first >= 0) or bool(
            negative_zero and start == 0
        )
        end = 10**MAX_DIGITS - 1 if last is None else last
        if start < end:
            if inside_open:  # the bound itself is out, what lies behind it is in
                parts.append(seq(sign, _naturals(start, start), some))
                if start + 1 <= end - 1:
                    parts.append(seq(sign, _naturals(start + 1, end - 1), fraction))
            else:
                parts.append(seq(sign, _naturals(start, end - 1), fraction))
        if not last_open and end >= start and not (end == start and inside_open):
            parts.append(seq(sign, _naturals(end, end), zeros))
    return OneOf(tuple(parts))


def _naturals(low: int, high: int) -> Pattern:
    """Whole numbers low..high, both at least 0."""
    parts: list[Pattern] = []
    while low <= high:
        size = len(str(low))
        parts.append(_same_length(str(low), str(min(high, 10**size - 1))))
        low = 10**size
    return OneOf(tuple(parts))


def _same_length(low: str, high: str) -> Pattern:
    """Digits between two numerals of the same length."""
    if not low.strip("0") and not high.strip("9"):
        return Times(DIGIT, len(low), len(low))
    if low[0] == high[0]:
        return seq(low[0], _same_length(low[1:], high[1:]))
    rest = len(low) - 1
    parts = [
        seq(low[0], _same_length(low[1:], "9" * rest)),
        seq(high[0], _same_length("0" * rest, high[1:])),
    ]
    between = (ord(low[0]) + 1, ord(high[0]) - 1)
    if between[0] <= between[1]:
        parts.append(seq(Chars((between,)), Times(DIGIT, rest, rest)))
    return OneOf(tuple(parts))


def escaped(pattern: Pattern) -> Pattern:
    """A pattern of a string's characters as the pattern of how JSON writes them."""
    match pattern:
        case Text(text):
            return Seq(tuple(escaped(Chars.of(c)) for c in text))
        case Chars(spans):
            parts: list[Pattern] = []
            for code in (*range(0x20), 0x22, 0x5C):
                if any(first <= code <= last for first, last in spans):
                    parts.append(Text(SHORT.get(chr(code), f"\\u{code:04x}")))
            plain = tuple(
                (max(a, c), min(b, d))
                for a, b in spans
                for c, d in PLAIN.spans
                if max(a, c) <= min(b, d)
            )
            return OneOf((*parts, Chars(plain))) if plain else OneOf(tuple(parts))
        case Seq(inner):
            return Seq(tuple(map(escaped, inner)))
        case OneOf(inner):
            return OneOf(tuple(map(escaped, inner)))
        case Times(part, least, most):
            return Times(escaped(part), least, most)
    raise TypeError(pattern)


def _member(value: Pattern, key: Pattern | None = None) -> Pattern:
    return seq(key or string(CHARACTER), SPACE, ":", SPACE, value)


def _object(members: Sequence[tuple[Pattern, bool]]) -> Pattern:
    return seq(
        "{",
        SPACE,
        Fields(tuple((seq(m, SPACE), needed) for m, needed in members), seq(",", SPACE)),
        "}",
    )


def _listed(items: Sequence[Pattern]) -> Pattern:
    return seq(
        "[", SPACE, Fields(tuple((seq(i, SPACE), True) for i in items), seq(",", SPACE)), "]"
    )


def _many(item: Pattern, least: int, most: int | None, ends: str) -> Pattern:
    """Items in brackets, at least `least` and at most `most`."""
    one, more = seq(item, SPACE), seq(",", SPACE, item, SPACE)
    if most == 0:
        return seq(ends[0], SPACE, ends[1])
    rest = seq(one, Times(more, max(0, least - 1), None if most is None else most - 1))
    return seq(ends[0], SPACE, rest if least else Times(rest, 0, 1), ends[1])


@dataclass
class _Reader:
    root: Schema
    known: dict[str, Pattern] = field(default_factory=dict)

    def value(self, schema: Any, at: str, inside: tuple[str, ...]) -> Pattern:
        """at: a JSON pointer for messages; inside: the references that led here."""
        if schema is True:
            return free_value()
        if not isinstance(schema, Mapping):
            raise ConstraintError(f"{at} is {schema!r}, expected an object.")
        schema = {k: v for k, v in schema.items() if k not in SAYS_NOTHING}
        if not schema:
            return free_value()
        for name, read in self._whole().items():
            if name in schema:
                others = set(schema) - {name} - ({"type"} if name in ("enum", "const") else set())
                if others:
                    raise ConstraintError(
                        f"{at} has {name} beside {', '.join(sorted(others))}; give one of them."
                    )
                return read(schema, at, inside)
        kinds = schema["type"] if "type" in schema else _implied(schema, at)
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        allowed = {"type"}.union(*(KEYWORDS.get(kind, set()) for kind in kinds))
        if unknown := set(schema) - allowed:
            raise ConstraintError(
                f"{at} uses {', '.join(sorted(unknown))}, which is not enforced; leave it out."
            )
        if "integer" in kinds and "number" in kinds:
            kinds.remove("integer")
        return OneOf(tuple(self._typed(kind, schema, at, inside) for kind in kinds))

    def _whole(self) -> dict[str, Callable[..., Pattern]]:
        return {
            "$ref": self._reference,
            "const": self._const,
            "enum": self._enum,
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "allOf": self._all_of,
        }

    def _typed(
        self, kind: str, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]
    ) -> Pattern:
        match kind:
            case "null":
                return Text("null")
            case "boolean":
                return either("true", "false")
            case "string":
                return self._string(schema, at)
            case "integer" | "number":
                return self._number(kind, schema, at)
            case "array":
                return self._array(schema, at, inside)
            case "object":
                return self._object(schema, at, inside)
        raise ConstraintError(f"{at} has type {kind!r}, expected {', '.join(KEYWORDS)}.")

    def _string(self, schema: Mapping[str, Any], at: str) -> Pattern:
        given = [name for name in ("pattern", "format") if name in schema]
        counted = [name for name in ("minLength", "maxLength") if name in schema]
        if len(given) + bool(counted) > 1:
            raise ConstraintError(f"{at} has {' and '.join(given + counted)}; give one of them.")
        if "pattern" in schema:
            return seq('"', escaped(parse_search(schema["pattern"])), '"')
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise ConstraintError(
                    f"{at} has format {schema['format']!r}, expected {', '.join(FORMATS)}."
                )
            return seq('"', escaped(parse_search(FORMATS[schema["format"]])), '"')
        least, most = self._counts(schema, "minLength", "maxLength", at)
        return string(COUNTED if least or most is not None else CHARACTER, least, most)

    def _number(self, kind: str, schema: Mapping[str, Any], at: str) -> Pattern:
        bounds = {}
        for name in KEYWORDS["integer"]:
            if (value := schema.get(name)) is not None:
                if (
                    isinstance(value, bool)
                    or not isinstance(value, int | float)
                    or value != int(value)
                ):
                    raise ConstraintError(f"{at} has {name} {value!r}, expected a whole number.")
                bounds[name] = int(value)
        if kind == "number" and not bounds:
            return number()
        low, high = bounds.get("minimum"), bounds.get("maximum")
        above, below = bounds.get("exclusiveMinimum"), bounds.get("exclusiveMaximum")
        if kind == "integer":
            lows = [x for x in (low, above if above is None else above + 1) if x is not None]
            highs = [x for x in (high, below if below is None else below - 1) if x is not None]
            return integer(max(lows, default=None), min(highs, default=None))
        open_low = above is not None and (low is None or above >= low)
        open_high = below is not None and (high is None or below <= high)
        return decimal(
            above if open_low else low, below if open_high else high, open_low, open_high
        )

    def _array(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        least, most = self._counts(schema, "minItems", "maxItems", at)
        if "prefixItems" in schema:
            firsts = [
                self.value(s, f"{at}/prefixItems/{i}", inside)
                for i, s in enumerate(schema["prefixItems"])
            ]
            if schema.get("items", False) is not False or least > len(firsts) or most is not None:
                raise ConstraintError(
                    f"{at} has prefixItems beside items, minItems or maxItems; give one of them."
                )
            return _listed(firsts)
        return _many(
            self.value(schema.get("items", True), f"{at}/items", inside), least, most, "[]"
        )

    def _object(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        properties, required = schema.get("properties", {}), set(schema.get("required", ()))
        others = schema.get("additionalProperties", False if properties else True)
        if not properties and others is not False:
            if required:
                raise ConstraintError(
                    f"{at} requires {', '.join(sorted(required))}, which it does not describe."
                )
            return _many(
                _member(self.value(others, f"{at}/additionalProperties", inside)), 0, None, "{}"
            )
        if others not in (False, True):
            raise ConstraintError(
                f"{at} has properties beside additionalProperties; give one of them."
            )
        if missing := required - set(properties):
            raise ConstraintError(
                f"{at} requires {', '.join(sorted(missing))}, which it does not describe."
            )
        return _object(
            [
                (
                    _member(self.value(value, f"{at}/properties/{name}", inside), quoted(name)),
                    name in required,
                )
                for name, value in properties.items()
            ]
        )

    def _reference(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        name = schema["$ref"]
        if name in inside:
            raise ConstraintError(
                f"{at} refers to itself through {name}; only finite schemas can be enforced."
            )
        target: Any = self.root
        if not isinstance(name, str) or not name.startswith("#"):
            raise ConstraintError(
                f"{at} refers to {name!r}, expected a place in the same schema, #/..."
            )
        for part in name[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or part not in target:
                raise ConstraintError(f"{at} refers to {name!r}, which does not exist.")
            target = target[part]
        return self.value(target, name, (*inside, name))

    def _const(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        return literal(schema["const"])

    def _enum(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        if not schema["enum"]:
            raise ConstraintError(f"{at} has an empty enum, which nothing satisfies.")
        return OneOf(tuple(map(literal, schema["enum"])))

    def _any_of(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        return OneOf(
            tuple(self.value(s, f"{at}/anyOf/{i}", inside) for i, s in enumerate(schema["anyOf"]))
        )

    def _one_of(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        parts = [self.value(s, f"{at}/oneOf/{i}", inside) for i, s in enumerate(schema["oneOf"])]
        automata = list(map(compile_pattern, parts))
        for i, one in enumerate(automata):
            for j in range(i):
                if not disjoint(one, automata[j]):
                    raise ConstraintError(
                        f"{at}/oneOf: {j} and {i} allow a common value; use anyOf."
                    )
        return OneOf(tuple(parts))

    def _all_of(self, schema: Mapping[str, Any], at: str, inside: tuple[str, ...]) -> Pattern:
        if len(schema["allOf"]) != 1:
            raise ConstraintError(
                f"{at} has allOf of {len(schema['allOf'])} parts; merge them into one."
            )
        return self.value(schema["allOf"][0], f"{at}/allOf/0", inside)

    def _counts(
        self, schema: Mapping[str, Any], low: str, high: str, at: str
    ) -> tuple[int, int | None]:
        least, most = schema.get(low, 0), schema.get(high)
        for name, value in ((low, least), (high, most)):
            if value is not None and (type(value) is not int or value < 0):
                raise ConstraintError(f"{at} has {name} {value!r}, expected a whole number from 0.")
        if most is not None and most < least:
            raise ConstraintError(f"{at} has {low} {least} above {high} {most}.")
        return least, most


def _implied(schema: Mapping[str, Any], at: str) -> str:
    """The type of a schema that does not name one but has keywords of one only."""
    fitting = [kind for kind, names in KEYWORDS.items() if set(schema) <= names]
    if not fitting:
        raise ConstraintError(f"{at} has no type, expected one beside {', '.join(sorted(schema))}.")
    return "number" if "number" in fitting else fitting[0]
