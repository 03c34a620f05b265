"""Tools that tiny-chat was trained to call, and an agent's loop around them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def _declared(name: str, description: str, **types: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in types.items()}
    schema = {"type": "object", "properties": properties, "required": list(types)}
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


TOOLS = [
    _declared("add", "Add two numbers.", a="integer", b="integer"),
    _declared("timer", "Set a timer.", minutes="integer"),
]

DONE: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "timer": lambda minutes: f"set to {minutes} minutes",
}


def results_of(calls: Any) -> list[dict[str, Any]]:
    """The messages that answer calls, as an agent makes them."""
    return [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": json.dumps(DONE[call.function.name](**json.loads(call.function.arguments))),
        }
        for call in calls
    ]
