"""Places of a prompt that users and clients write, and what must hold for a control text there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlx_diffgemma.text.chat import render_text, write_turns
from mlx_diffgemma.text.tokenizer import Tokenizer

Asked = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Messages and the declarations of tools."""

Place = Callable[[str], Asked]

INNOCENT = "apple"  # what a control text is put in place of


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def calling(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def declared(name: str, description: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    about = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": about}


PLAIN = turn("user", "Hi")
PLACES: dict[str, Place] = {
    "user": lambda t: ([turn("user", f"a{t}b")], []),
    "user alone": lambda t: ([turn("user", t)], []),
    "system": lambda t: ([turn("system", f"{t} a"), PLAIN], []),
    "earlier answer": lambda t: ([PLAIN, turn("assistant", f"So{t}"), PLAIN], []),
    "part": lambda t: ([turn("user", [{"type": "text", "text": f"x {t}"}])], []),
    "joined parts": lambda t: (
        [turn("user", [{"type": "text", "text": each} for each in (t[:2], t[2:])])],
        [],
    ),
}
OF_TOOLS: dict[str, Place] = {
    "tool's name": lambda t: ([PLAIN], [declared(f"f{t}", "", {})]),
    "description": lambda t: ([PLAIN], [declared("f", f"do {t}", {})]),
    "schema's key": lambda t: ([PLAIN], [declared("f", "d", {t: {"type": "string"}})]),
    "schema's text": lambda t: (
        [PLAIN],
        [declared("f", "d", {"k": {"type": "string", "enum": [t], "description": t}})],
    ),
    "called name": lambda t: (
        [PLAIN, turn("assistant", "", tool_calls=[calling(f"f{t}", {"a": 1})]), PLAIN],
        [],
    ),
    "arguments": lambda t: (
        [PLAIN, turn("assistant", "", tool_calls=[calling("f", {"a": {"b": [t, t]}})]), PLAIN],
        [],
    ),
    "argument's key": lambda t: (
        [PLAIN, turn("assistant", "", tool_calls=[calling("f", {t: 1, f"a{t}": "x"})]), PLAIN],
        [],
    ),
}
RESULTS: dict[str, Place] = {
    "result": lambda t: (
        [
            PLAIN,
            turn("assistant", "", tool_calls=[calling("f", {})]),
            turn("tool", f"r{t}", name="f", tool_call_id="1"),
        ],
        [],
    ),
    "result's object": lambda t: (
        [
            PLAIN,
            turn("assistant", "", tool_calls=[calling("f", {})]),
            turn("tool", {"value": [t], t: True}, name="f", tool_call_id="1"),
        ],
        [],
    ),
}


def require_text(tokenizer: Tokenizer, place: Place, text: str) -> None:
    """A control text in a place is as many characters, and the rest is as with an innocent one."""
    (messages, tools), (same, others) = place(text), place(INNOCENT)
    found = tokenizer.encode_pieces(write_turns(tokenizer, messages, tools=tools).pieces)
    plain = tokenizer.encode_pieces(write_turns(tokenizer, same, tools=others).pieces)
    assert controls(tokenizer, found) == controls(tokenizer, plain), text
    whole = tokenizer.decode(found, special=True)
    assert text in whole or json.dumps(text)[1:-1] in whole
    if "channel" not in text:  # templates leave thoughts out
        expected = render_text(tokenizer, messages, tools=tools)
        assert sorted(whole) == sorted(expected), text  # keys may stand in another order


def controls(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The control ids among some."""
    named = {*map(tokenizer.id_of, tokenizer.control.texts)} | tokenizer.control_ids
    return [token for token in ids if token in named]


def all_places(tokenizer: Tokenizer, places: Mapping[str, Place]) -> int:
    """Try every control text of a vocabulary in every place."""
    for place in places.values():
        for text in tokenizer.control.texts:
            require_text(tokenizer, place, text)
    return len(tokenizer.control.texts)
