"""A request as Codex sends it: twelve fields, no temperature, no stop, no limit."""

from __future__ import annotations

from typing import Any

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "exec_command",
        "description": "Runs a command.",
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": {
                "cmd": {"type": "string", "description": "Shell command to execute."},
                "yield_time_ms": {"type": "number"},
                "tty": {"type": "boolean"},
            },
            "required": ["cmd"],
            "additionalProperties": False,
        },
    },
    {
        "type": "function",
        "name": "update_plan",
        "description": "Updates the plan.",
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": {
                "plan": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"step": {"type": "string"}, "status": {"type": "string"}},
                        "required": ["step", "status"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["plan"],
            "additionalProperties": False,
        },
    },
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark"}},
    {"type": "web_search", "external_web_access": True},
]


def codex(**changes: Any) -> dict[str, Any]:
    """A request behind two calls of which the second was answered first."""
    return {
        "model": "gpt-9-codex",
        "instructions": "You are Codex. " * 500,
        "input": [
            _message("developer", "Sandboxing is on."),
            _message("user", "# AGENTS.md\nBe brief."),
            _message("user", "What is here?"),
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "List them."}],
                "content": None,
                "encrypted_content": "gAAAA",
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I will look."}],
                "phase": "commentary",
            },
            _call("call_1", '{"cmd":"ls"}'),
            _call("call_2", '{"cmd":"pwd"}'),
            {"type": "function_call_output", "call_id": "call_2", "output": "/work"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a.py\nb.py"},
        ],
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0190-0a1b",
        "text": {"verbosity": "low"},
        **changes,
    }


def _message(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def _call(key: str, arguments: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "name": "exec_command",
        "arguments": arguments,
        "call_id": key,
    }
