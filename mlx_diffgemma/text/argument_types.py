"""The types that a tool's schema gives its arguments, and values read as these.

A model writes 42 where a text is wanted, and "42" where a number is. The schema knows better.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..machine.files import parse_json

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
WORDS |= {"True": True, "False": False, "None": None}  # as Python, and one template, write them
BRANCHES = ("anyOf", "oneOf", "allOf")
MAX_DEPTH = 64  # lists and objects inside one another
MOST_BRANCHES = 100  # of one schema; what is behind is not looked at


@dataclass(frozen=True)
class Schema:
    """A part of a tool's schema, and the whole of it, for references; not checked in any way."""

    node: object = None
    root: object = None

    @property
    def kinds(self) -> frozenset[str]:
        """The types that a value may have; none of them where any will do."""
        found: set[str] = set()
        for branch in self._leaves():
            kinds = _kinds(branch)
            if not kinds:
                return frozenset()
            found |= kinds
        return frozenset(found)

    @property
    def names(self) -> frozenset[str]:
        """The names of an object's members, as far as they are declared."""
        return frozenset(key for part in self._parts("properties") for key in part)

    def member(self, name: str) -> Schema:
        """The schema of an object's member."""
        for part in self._parts("properties"):
            if name in part:
                return Schema(part[name], self.root)
        return self._first("additionalProperties")

    def item(self) -> Schema:
        """The schema of a list's items."""
        return self._first("items")

    def _first(self, keyword: str) -> Schema:
        return Schema(next(self._parts(keyword), None), self.root)

    def _parts(self, keyword: str) -> Iterator[Mapping[str, Any]]:
        for branch in self._leaves():
            if isinstance(part := branch.get(keyword), Mapping):
                yield part

    def _leaves(self) -> Iterator[Mapping[str, Any]]:
        """The objects that say something of a value: alternatives and references followed."""
        todo, seen = [self.node], set[int]()
        while todo and len(seen) < MOST_BRANCHES:
            node = todo.pop()
            if not isinstance(node, Mapping) or id(node) in seen:
                continue
            seen.add(id(node))
            inner = [*self._referred(node)]
            for keyword in BRANCHES:
                if isinstance(branches := node.get(keyword), list):
                    inner += branches
            todo += reversed(inner)
            if not inner or "properties" in node or "type" in node:
                yield node

    def _referred(self, node: Mapping[str, Any]) -> Iterator[object]:
        """The schema that a reference inside the schema names."""
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return
        found: object = self.root
        for step in reference[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        yield found


def _kinds(node: Mapping[str, Any]) -> set[str]:
    """The types that one object of a schema names."""
    if isinstance(given := node.get("type"), str):
        return {given.lower()}
    if isinstance(given, list):
        return {kind.lower() for kind in given if isinstance(kind, str)}
    if isinstance(values := node.get("enum"), list):
        return {kind_of(value) for value in values}
    if "const" in node:
        return {kind_of(node["const"])}
    return {kind for key, kind in (("properties", "object"), ("items", "array")) if key in node}


def kind_of(value: object) -> str:
    """The type of a value, as JSON Schema calls it."""
    if isinstance(value, bool):
        return "boolean"
    kinds = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def fits(value: object, kinds: frozenset[str]) -> bool:
    """True where a value has one of the types, or any will do."""
    kind = kind_of(value)
    return not kinds or kind in kinds or (kind == "integer" and "number" in kinds)


def scalar_of(word: str) -> object:
    """The value of a word or a finite number; ValueError for any other text."""
    if word in WORDS:
        return WORDS[word]
    number = NUMBER.fullmatch(word)
    if number is None:
        raise ValueError("neither a word nor a number")
    if number[1] is None and number[2] is None:
        return int(word)
    if not math.isfinite(decimal := float(word)):
        raise ValueError("too large a number")
    return decimal


def typed(value: object, written: str | None, schema: Schema) -> object:
    """A value as one of the schema's types, or as it is where it cannot be one.

    written: the text of a word or a number, None for other values. Lists and objects stay as they
    are.
    """
    kinds = schema.kinds
    if fits(value, kinds):
        return value
    if isinstance(value, float) and "integer" in kinds and value.is_integer():
        return int(value)
    if written is not None and "string" in kinds and value is not None:
        return written
    return _of_text(value, schema) if isinstance(value, str) else value


def _of_text(text: str, schema: Schema) -> object:
    """A text's value as one of the types, or the text."""
    word = text.strip()
    word = word.lower() if word.lower() in WORDS else word
    for read in (scalar_of, _json_of):
        try:
            value = _all_typed(read(word), schema)
        except ValueError:
            continue
        if not isinstance(value, str) and fits(value, schema.kinds):
            return value
    return text


def _all_typed(value: object, schema: Schema, depth: int = 0) -> object:
    """A value of JSON, and all in it, as the schema's types; ValueError where it is too deep."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {k: _all_typed(each, schema.member(k), depth + 1) for k, each in value.items()}
    if isinstance(value, list):
        return [_all_typed(each, schema.item(), depth + 1) for each in value]
    number = isinstance(value, int | float)
    return typed(value, json.dumps(value) if number else None, schema)


def _json_of(text: str) -> object:
    """The value of a text of JSON."""
    value: object = parse_json(text.encode())
    return value
