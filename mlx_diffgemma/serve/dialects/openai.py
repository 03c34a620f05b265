"""Fields that several dialects of OpenAI's API share, in requests and in answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..events import Finish, Usage
from .fields import Fields

END = "data: [DONE]\n\n"
FINISHES: Mapping[Finish, str] = {
    "stop": "stop",
    "stop_text": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
}
UNTHINKING = ("none", "minimal")
"""Efforts of reasoning that ask for no thought."""

FORMATS = ("text", "json_object", "json_schema")
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
"""The schema of json_object."""


def refuse_many(fields: Fields) -> None:
    """Refusal for more than one answer."""
    if fields.whole("n") not in (None, 1):
        raise fields.wrong("n", "1: one answer a request")


def includes_usage(fields: Fields) -> bool:
    """True where a stream ends with a chunk that tells the tokens."""
    options = fields.object("stream_options")
    return options is not None and bool(options.flag("include_usage"))


def usage_object(usage: Usage) -> dict[str, Any]:
    """Tokens as chat completions and completions count them."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.thought},
    }
