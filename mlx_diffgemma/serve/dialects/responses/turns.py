"""Items of input in the Responses API as turns of a conversation.

What a model said in one go is several items, thought, text and calls; they become one turn, as
templates want it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..content import Images, LeftOut, Part, arguments_of, call_of, tool_turn
from ..fields import Fields, invalid
from .content import content_of, output_of

ROLES = ("user", "assistant", "system", "developer")
CALLS = ("function_call", "custom_tool_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")

Turn = dict[str, Any]


@dataclass
class Turns:
    """The turns of the items read so far; names: of functions that were called, by calls' ids."""

    names: Mapping[str, str]
    images: Images = field(default_factory=Images)
    made: list[Turn] = field(default_factory=list)
    left: LeftOut = field(default_factory=LeftOut)

    def take(self, item: Fields) -> None:
        """Read an item; Refusal for a wrong one."""
        kind = item.text("type") or ("message" if item.has("role") else "item_reference")
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            self._thought(item)
        elif kind in CALLS:
            self._answer.setdefault("tool_calls", []).append(_call(item, kind))
        elif kind in OUTPUTS:
            self.made.append(self._result(item))
        elif kind == "item_reference":
            raise invalid(
                item.path, "refers to an item that is stored, expected the item: nothing is stored."
            )
        else:
            self.left.add(item, kind)

    @property
    def _answer(self) -> Turn:
        """The model's turn that goes on, or a new one."""
        if not self.made or self.made[-1]["role"] != "assistant":
            self.made.append({"role": "assistant", "content": ""})
        return self.made[-1]

    def _message(self, item: Fields) -> None:
        role = item.one_of("role", ROLES)
        if role is None:
            raise item.wrong("role", ", ".join(ROLES))
        content = content_of(item, self.images)
        if role == "assistant":
            self._answer["content"] = _together(self._answer["content"], content)
        else:
            told = "system" if role == "developer" else role
            self.made.append({"role": told, "content": content})

    def _thought(self, item: Fields) -> None:
        """A thought: its summary, or what it is a summary of; an encrypted one says nothing."""
        parts = item.objects("summary") or item.objects("content")
        texts = [part.needed_text("text") for part in parts]
        before = self._answer.get("reasoning_content")
        if thought := "\n".join(filter(None, (before, *texts))):
            self._answer["reasoning_content"] = thought

    def _result(self, item: Fields) -> Turn:
        key = item.needed_text("call_id")
        return tool_turn(key, self.names, output_of(item, self.images))


def names_of(items: tuple[Fields, ...]) -> dict[str, str]:
    """The names of the functions that are called, by the calls' ids."""
    calls = [item for item in items if item.value.get("type") in CALLS]
    return {item.needed_text("call_id"): item.needed_text("name") for item in calls}


def _call(item: Fields, kind: str) -> dict[str, Any]:
    if kind == "function_call":
        arguments = arguments_of(item)
    else:
        arguments = {"input": item.needed_text("input")}
    return call_of(item.needed_text("call_id"), item.needed_text("name"), arguments)


def _together(before: str | list[Part], more: str | list[Part]) -> str | list[Part]:
    """Two contents as one, with an empty line between their texts."""
    if isinstance(before, str) and isinstance(more, str):
        return "\n\n".join(filter(None, (before, more)))
    return [*_parts_of(before), *_parts_of(more)]


def _parts_of(content: str | list[Part]) -> list[Part]:
    if not isinstance(content, str):
        return content
    return [{"type": "text", "text": content}] if content else []
