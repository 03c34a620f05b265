"""A request as Claude Code sends it: a large system text, many tools, results, thoughts."""

from __future__ import annotations

from typing import Any

BILLING = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch={nonce};"
EPHEMERAL = {"type": "ephemeral"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"

PATHS = {
    "file_path": {"type": "string", "description": "The absolute path."},
    "offset": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
    "limit": {"type": "number", "description": "Lines."},
}
TODOS = {
    "todos": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "content": {"type": "string", "minLength": 1},
                "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
            },
            "required": ["content", "status"],
            "additionalProperties": False,
        },
    },
}
FETCHED = {
    "url": {"type": "string", "format": "uri"},
    "headers": {
        "type": "object",
        "propertyNames": {"type": "string"},
        "additionalProperties": {"type": "string"},
    },
    "mode": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
}


def tool(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A declaration with a schema as Claude Code makes them."""
    schema = {
        "$schema": DRAFT_7,
        "type": "object",
        "properties": properties,
        "required": list(properties)[:1],
        "additionalProperties": False,
    }
    return {"name": name, "description": f"{name}. " * 40, "input_schema": schema}


TOOLS = [
    *(tool(name, PATHS) for name in ("Read", "Edit", "Write", "NotebookEdit", "Glob", "Grep")),
    *(tool(name, TODOS) for name in ("TodoWrite", "Task", "ExitPlanMode", "AskUserQuestion")),
    *(tool(name, FETCHED) for name in ("WebFetch", "Skill", "SlashCommand")),
    *(tool(name, {"command": {"type": "string"}}) for name in ("Bash", "BashOutput", "KillShell")),
    *(tool(f"mcp__ide__tool-{number}", {}) for number in range(8)),
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
]


def claude_code(nonce: str = "0a1b2", **changes: Any) -> dict[str, Any]:
    """A request behind a call that was answered; nonce: what changes from one to the next."""
    return {
        "model": "claude-opus-9",
        "max_tokens": 32000,
        "stream": True,
        "system": [
            {"type": "text", "text": BILLING.format(nonce=nonce)},
            {"type": "text", "text": "You are Claude Code.", "cache_control": EPHEMERAL},
            {"type": "text", "text": "Be brief. " * 2000, "cache_control": EPHEMERAL},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>\nToday.\n</system-reminder>"},
                    {"type": "text", "text": "Read a.py", "cache_control": EPHEMERAL},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "A file.", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "b3BhcXVl"},
                    {"type": "text", "text": "I read it."},
                    _use("toolu_1", {"file_path": "/a.py"}),
                    _use("toolu_2", {"file_path": "/b.py"}),
                ],
            },
            {
                "role": "user",
                "content": [
                    _result("toolu_2", "<tool_use_error>No file.</tool_use_error>", is_error=True),
                    _result("toolu_1", [{"type": "text", "text": "1\tx = 1"}]),
                    {"type": "text", "text": "And now?", "cache_control": EPHEMERAL},
                ],
            },
            {"role": "system", "content": "The user opened b.py."},
        ],
        "tools": TOOLS,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "user_0_account__session_0"},
        **changes,
    }


def _use(key: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": key, "name": "Read", "input": given}


def _result(key: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": key, "content": content, **more}
