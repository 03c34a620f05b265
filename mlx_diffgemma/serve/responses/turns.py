"""Items of input in the Responses API as turns of a conversation.

What a model said in one go is several items, thought, text and calls; they become one turn, as
templates want it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import brief
from ..content import Images, arguments_of, plain
from ..fields import Fields, invalid
from .content import content_of, output_of

ROLES = ("user", "assistant", "system", "developer")
CALLS = ("function_call", "custom_tool_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")
MOST_LINES = 8  # of items that are left out

Turn = dict[str, Any]


@dataclass
class Turns:
    """The turns of the items read so far; names: of functions that were called, by calls' ids.

    left: paths of the items that were left out, by their type.
    """

    names: Mapping[str, str]
    images: Images = field(default_factory=Images)
    made: list[Turn] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

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
            self.left.setdefault(kind, []).append(item.path)

    def lines(self) -> Iterator[str]:
        """A line for each type of items that were left out."""
        for kind, paths in list(self.left.items())[:MOST_LINES]:
            also = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{paths[0]}{also} of type {brief(kind)} is not read, and was left out."

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
            said = filter(None, (self._answer["content"], plain(content)))
            self._answer["content"] = "\n\n".join(said)
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
        named = {"name": self.names[key]} if key in self.names else {}
        content = output_of(item, self.images)
        return {"role": "tool", "tool_call_id": key, **named, "content": content}


def names_of(items: tuple[Fields, ...]) -> dict[str, str]:
    """The names of the functions that are called, by the calls' ids."""
    calls = [item for item in items if item.value.get("type") in CALLS]
    return {item.needed_text("call_id"): item.needed_text("name") for item in calls}


def _call(item: Fields, kind: str) -> dict[str, Any]:
    if kind == "function_call":
        arguments = arguments_of(item)
    else:
        arguments = {"input": item.needed_text("input")}
    function = {"name": item.needed_text("name"), "arguments": arguments}
    return {"id": item.needed_text("call_id"), "type": "function", "function": function}
