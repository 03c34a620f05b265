"""JSON schemas at random, values that satisfy them, and how JSON may be written."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx_diffgemma.constrain.schema.strings import FORMATS

FOLDER = Path(__file__).parents[1] / "data" / "schemas"
SCHEMAS: dict[str, Any] = {f.stem: json.loads(f.read_text()) for f in sorted(FOLDER.glob("*.json"))}
STRINGS = [
    *("", "a", 'say "hi"', "back\\slash", "line\nbreak\ttab", "é € \U0001f600", "{}[]:,", "x" * 40),
    *("\x00\x1f\x7f", "0123"),
]
SAMPLES = {
    "date": ["2026-11-28"],
    "time": ["23:59:59Z"],
    "date-time": ["2026-01-02T03:04:05.123+01:00"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "email": ["a.b+c@ex-ample.co.uk"],
    "ipv4": ["192.168.0.255"],
    "uri": [
        *("https://a-b.example:8080/x/%7Ey?q=1&r=a/b#top", "file:///tmp/x", "http://example.org"),
        *("mailto:a.b@c.example", "urn:isbn:0451450523"),
    ],
    "^[0-9]{5}$": ["01234"],
    "^[A-Z]{2}[0-9A-Z]{8,12}$": ["DE12345678", "FRAB1234567890"],
    "^a+b?$": ["a", "aaab"],
    "x\\d": ["--x1--"],
}
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def spellings(value: Any) -> Iterator[str]:
    """JSON texts of a value; names are written as they are, never with \\u."""
    yield json.dumps(value, ensure_ascii=False)
    yield json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    yield json.dumps(value, indent=2, ensure_ascii=False)
    yield json.dumps(value, indent="\t", separators=(" , ", " : "), ensure_ascii=False)


def instance(schema: Any, root: Mapping[str, Any], source: random.Random) -> Any:
    """A random value that satisfies a schema, members in its order."""
    if schema is True or not schema:
        return source.choice([None, True, 1, "x", [1, "y"], {"k": [2]}])
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].split("/")[-1]], root, source)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return instance(source.choice(schema[name]), root, source)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return source.choice(schema["enum"])
    kind = schema["type"]
    kind = source.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        return _an_object(schema, root, source)
    if kind == "array":
        return _a_list(schema, root, source)
    if kind == "string":
        return _a_string(schema, source)
    if kind in ("integer", "number"):
        return _a_number(kind, schema, source)
    return {"boolean": source.choice([True, False]), "null": None}[kind]


def _an_object(schema: Any, root: Mapping[str, Any], source: random.Random) -> Any:
    if "properties" not in schema:
        inner = schema.get("additionalProperties", True)
        names = [source.choice(STRINGS) for _ in range(source.randint(0, 3))]
        return {name: instance(inner, root, source) for name in names} if inner else {}
    return {
        name: instance(inner, root, source)
        for name, inner in schema["properties"].items()
        if name in schema.get("required", ()) or source.random() < 0.5
    }


def _a_list(schema: Any, root: Mapping[str, Any], source: random.Random) -> Any:
    if "prefixItems" in schema:
        return [instance(s, root, source) for s in schema["prefixItems"]]
    least = schema.get("minItems", 0)
    count = source.randint(least, min(schema.get("maxItems", least + 3), least + 3))
    return [instance(schema.get("items", True), root, source) for _ in range(count)]


def _a_string(schema: Any, source: random.Random) -> str:
    if key := schema.get("format", schema.get("pattern")):
        return source.choice(SAMPLES[key])
    least, most = schema.get("minLength", 0), schema.get("maxLength", 99)
    fitting = [s for s in STRINGS if least <= len(s) <= most]
    if "maxLength" in schema or "minLength" in schema:  # no \u where characters are counted
        fitting = [s for s in fitting if not set(s) & set("\x00\x1f")]
    return source.choice(fitting or ["é" * least])


def _a_number(kind: str, schema: Any, source: random.Random) -> int | float:
    above, below = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
    high = schema.get("maximum", schema.get("exclusiveMaximum", 10**4) - below)
    low = schema.get("minimum", schema.get("exclusiveMinimum", high - 20) + above)
    high = min(high, low + 20)
    value: int | float = source.randint(low, max(low, high))
    if kind == "number" and source.random() < 0.5 and value + 1 <= high:
        value += source.choice([0.5, 0.25, 0.125])
    if kind == "number" and not BOUNDS & set(schema):
        value = source.choice([value, 1e-7, -2.5e10, 0.1])
    return value


def random_schema(source: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema of the keywords that are enforced."""
    kind = source.choice(["object", "array", "anyOf", "leaf"] if depth else ["leaf"])
    if kind == "object":
        named = ["a", "b b", 'q"', "é", "long_name", "x\\y", "n1"]
        names = source.sample(named, source.randint(0, 4))
        made: dict[str, Any] = {"type": "object"}
        made["properties"] = {n: random_schema(source, depth - 1) for n in names}
        made["required"] = [n for n in names if source.random() < 0.6]
        closed = not names or source.random() < 0.5
        return made | ({"additionalProperties": False} if closed else {})
    if kind == "array":
        return _random_list(source, depth)
    if kind == "anyOf":
        return {"anyOf": [random_schema(source, depth - 1) for _ in range(source.randint(1, 3))]}
    return _random_leaf(source)


def _random_list(source: random.Random, depth: int) -> dict[str, Any]:
    if source.random() < 0.2:
        firsts = [random_schema(source, depth - 1) for _ in range(source.randint(1, 3))]
        return {"type": "array", "prefixItems": firsts, "items": False}
    made = {"type": "array", "items": random_schema(source, depth - 1)}
    least = source.choice([0, 0, 1, 2])
    made |= {"minItems": least} if least else {}
    return made | ({"maxItems": least + source.randint(0, 2)} if source.random() < 0.4 else {})


def _random_leaf(source: random.Random) -> dict[str, Any]:
    low = source.choice([-120, -7, 0, 1, 13, 99])
    high = low + source.choice([0, 1, 9, 12, 105, 2000])
    bound: dict[str, Any] = source.choice(
        [
            *({}, {"minimum": low}, {"maximum": high}, {"minimum": low, "maximum": high}),
            {"exclusiveMinimum": low, "exclusiveMaximum": high + 2},
            {"minimum": low, "exclusiveMaximum": high + 1},
            {"exclusiveMinimum": low, "maximum": high + 1},
        ]
    )
    named = ["red", "rouge", "röd", 1, 10, True, None, 2.5, [1, 2]]
    return source.choice(
        [
            *({"type": kind} for kind in ("string", "boolean", "null")),
            *({"type": "integer"} | bound, {"type": "number"} | bound),
            {"type": ["string", "null"]},
            {"const": source.choice([1, "a\n", None, [1, {"k": "v"}], {"z": []}])},
            {"enum": source.sample(named, 3)},
            {"type": "string", "minLength": 1, "maxLength": 4},
            {"type": "string", "pattern": source.choice(["^a+b?$", "x\\d"])},
            {"type": "string", "format": source.choice(sorted(FORMATS))},
        ]
    )
