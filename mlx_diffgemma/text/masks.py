"""Masks: characters for private use in messages, in place of those that could make control texts.

A message is a value of JSON as chat templates take it. What a template looks for in it stays: the
role, and keys and types that have a meaning of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

from ..errors import PromptError

Turn = Mapping[str, object]
"""A message as chat templates take it: role, content, and what else belongs to it."""

ASSISTANT = ("assistant", "model")
ROLES = frozenset({*ASSISTANT, "system", "developer", "user", "tool"})
# They matter where a vocabulary has a word as a control token, as tiny-sudoku has `user`.
KEYS = frozenset(
    {
        *("role", "content", "type", "text", "image", "video", "name", "id", "function", "items"),
        *("arguments", "response", "value", "description", "parameters", "properties", "required"),
        *("enum", "nullable", "anyOf", "oneOf", "allOf", "additionalProperties", "thinking"),
        *("tool_calls", "tool_call_id", "tool_responses", "reasoning", "reasoning_content"),
    }
)
TYPES = frozenset(
    {
        *("text", "image", "video", "function", "string", "number", "integer", "boolean"),
        *("object", "array", "null"),
    }
)
PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))


@dataclass(frozen=True)
class Masks:
    """A mark, a character for private use, for each of some characters.

    trusted: roles whose contents stay as they are.
    """

    marks: Mapping[str, str]
    trusted: Collection[str] = ()

    def message(self, message: Turn) -> Turn:
        """A message, or a tool's declaration, with marks in all that its writer chose."""
        stays = {key: message[key] for key in _stays(message, self.trusted)}
        return {**self._value(message), **stays}

    def unescaped(self, text: str) -> str:
        """A rendered text with a mark where the template wrote an escape of one."""
        for mark in self.marks.values():
            text = text.replace(_escape(mark), mark)
        return text

    def off(self, text: str) -> str:
        """A text with the characters in place of their marks."""
        return text.translate(self._off)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.translate(self._on)
        if isinstance(value, Mapping):
            return {
                key if key in KEYS else self._value(key): inner
                if _names_type(key, inner)
                else self._value(inner)
                for key, inner in value.items()
            }
        return [*map(self._value, value)] if isinstance(value, list | tuple) else value

    @cached_property
    def _on(self) -> dict[int, str]:
        return {ord(of): mark for of, mark in self.marks.items()}

    @cached_property
    def _off(self) -> dict[int, str]:
        return {ord(mark): of for of, mark in self.marks.items()}


def masks_for(
    characters: Collection[str], texts: Sequence[str], trusted: Collection[str] = ()
) -> Masks:
    """Masks of characters: marks that no text has, neither as they are nor escaped.

    PromptError where the texts leave none.
    """
    joined, wanted = "\n".join(texts), sorted(characters)
    used = set(joined)
    free = (
        mark
        for mark in map(chr, chain(*PRIVATE))
        if mark not in used and _escape(mark) not in joined
    )
    marks = dict(zip(wanted, islice(free, len(wanted)), strict=False))
    if len(marks) < len(wanted):
        raise PromptError(
            "the messages have all characters for private use, expected some that are not in use; "
            "leave them out."
        )
    return Masks(marks, trusted)


def strings(
    messages: Sequence[Turn], tools: Sequence[Turn], trusted: Collection[str] = ()
) -> list[str]:
    """All strings that masks would go into, in messages and the declarations of tools."""
    waiting: list[object] = []
    for message in (*messages, *tools):
        stays = _stays(message, trusted)
        waiting.append({key: value for key, value in message.items() if key not in stays})
    return list(_strings(waiting))


def _strings(waiting: list[object]) -> Iterator[str]:
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            waiting += [key for key in each if key not in KEYS]
            waiting += [inner for key, inner in each.items() if not _names_type(key, inner)]
        elif isinstance(each, list | tuple):
            waiting += each


def _stays(message: Turn, trusted: Collection[str]) -> list[str]:
    """The keys of a message whose values get no marks."""
    role = message.get("role")
    kept = {"role": role in ROLES, "content": role in trusted}
    return [key for key, stays in kept.items() if stays and key in message]


def _names_type(key: object, value: object) -> bool:
    return key == "type" and isinstance(value, str) and value in TYPES


def _escape(mark: str) -> str:
    """A mark as JSON and Python's own spelling escape it."""
    return f"\\u{ord(mark):04x}" if ord(mark) < 1 << 16 else f"\\U{ord(mark):08x}"
