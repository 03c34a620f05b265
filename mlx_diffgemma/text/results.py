"""Results of tool calls in a conversation, put where chat templates look for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..checkpoint.vision import ImageIds
from ..errors import PromptError
from .chat import render_text
from .placeholders import find_spelling
from .tokenizer import Tokenizer

Turn = Mapping[str, Any]
"""A message as chat templates take it: role, content, and what else belongs to it."""

IMAGE = "image"


@dataclass
class _Behind:
    """A place behind which a user's turn tells of results: of their images, or all where whole."""

    told: list[tuple[dict[str, Any], bool]] = field(default_factory=list)


@dataclass
class _Asked(_Behind):
    """An assistant's message with calls, and the results of these with their calls' numbers."""

    message: dict[str, Any] = field(default_factory=dict)
    results: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Its calls in order."""
        calls: list[dict[str, Any]] = self.message["tool_calls"]
        return calls

    @cached_property
    def ids(self) -> dict[object, int]:
        """The number of the first call of each id."""
        return {call["id"]: n for n, call in reversed([*enumerate(self.calls)]) if call.get("id")}

    def number_of(self, result: Turn) -> int | None:
        """The number of the call that a result answers: by its id, else the first open one.

        None where its id is another's, or where all calls of its name are answered.
        """
        if key := result.get("tool_call_id"):
            return self.ids.get(key)
        answered = {number for number, _ in self.results}
        for number, call in enumerate(self.calls):
            name = call["function"]["name"]
            if number not in answered and result.get("name") in (None, "", name):
                return number
        return None

    def put(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """The result with the name of its call, kept; None where it answers none of these."""
        if (number := self.number_of(result)) is None:
            return None
        named = {**result, "name": self.calls[number]["function"]["name"]}
        self.results.append((number, named))
        return named

    def answered(self, images_in_results: bool) -> list[dict[str, Any]]:
        """The message and its results in the order of the calls."""
        ordered = [result for _, result in sorted(self.results, key=lambda pair: pair[0])]
        seen = [result for result in ordered if _has_parts(result["content"])]
        if images_in_results and self.told == [(result, False) for result in seen]:
            self.told = []
            return [self.message, *ordered]
        return [self.message, *({**each, "content": _text_of(each)} for each in ordered)]


def placed(turns: Iterable[dict[str, Any]], images_in_results: bool) -> Iterator[dict[str, Any]]:
    """Turns with results behind their calls; images stay in order."""
    rest: list[dict[str, Any] | _Behind] = []
    last: dict[object, _Asked] = {}  # by the ids of its calls
    for turn in turns:
        if turn["role"] == "tool":
            _take(turn, rest, last)
        elif "tool_calls" in turn:
            rest.append(asked := _Asked(message=turn))
            last |= dict.fromkeys(asked.ids, asked)
        else:
            rest.append(turn)
    for each in rest:
        if isinstance(each, dict):
            yield each
            continue
        if isinstance(each, _Asked):
            yield from each.answered(images_in_results)
        if each.told:
            yield _said(each.told)


def _take(
    result: dict[str, Any], rest: list[dict[str, Any] | _Behind], last: Mapping[object, _Asked]
) -> None:
    """Put a result to the last call that it answers; what else is told of it stands here."""
    asked: Iterable[_Asked] = (each for each in reversed(rest) if isinstance(each, _Asked))
    if key := result.get("tool_call_id"):
        asked = [last[key]] if key in last else []
    named = next(filter(None, (each.put(result) for each in asked)), None)
    if named is not None and not _has_parts(named["content"]):
        return
    if not rest or not isinstance(rest[-1], _Behind):
        rest.append(_Behind())
    place = rest[-1]
    assert isinstance(place, _Behind)
    place.told.append((named or result, named is None))


def _said(told: Iterable[tuple[Turn, bool]]) -> dict[str, Any]:
    """A user's turn that tells of results."""
    parts: list[Turn] = []
    for result, whole in told:
        of = f"result of {name}" if (name := result.get("name")) else "result of a tool"
        text = f"The {of}:\n{as_text(_text_of(result))}" if whole else f"From the {of}:"
        parts.append({"type": "text", "text": text})
        if _has_parts(result["content"]):
            parts += [part for part in result["content"] if part["type"] == IMAGE]
    joined = joined_parts(parts)
    return {"role": "user", "content": joined if len(joined) > 1 else joined[0]["text"]}


def as_text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _has_parts(content: Any) -> bool:
    return isinstance(content, list)


def _text_of(result: Turn) -> Any:
    """A result's content without its images."""
    content = result["content"]
    if not _has_parts(content):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def joined_parts(parts: Iterable[Turn]) -> list[dict[str, Any]]:
    """Parts with texts that stand side by side made one, a line each: templates trim every part."""
    joined: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1]["text"] += "\n" + part["text"]
        else:
            joined.append(dict(part))
    return joined


def writes_images_of_results(tokenizer: Tokenizer, image_ids: ImageIds | None) -> bool:
    """True where the chat template writes a placeholder for an image in a tool's message."""
    if (spelling := find_spelling(tokenizer, image_ids)) is None:
        return False
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}
    turns: list[Turn] = [
        {"role": "user", "content": "f"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": [{"type": IMAGE}]},
    ]
    try:
        return spelling.soft in render_text(tokenizer, turns)
    except PromptError:  # it knows no tools at all
        return False
