"""Requests that every route takes, with many of the fields that clients send."""

from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}
DIFFUSION = {
    "drafts": True,
    "mode": "diffusion",
    "steps": 4,
    "entropy_bound": 0.1,
    "t_min": 0.4,
    "t_max": 0.8,
    "stability": 1,
    "confidence": 0.005,
}
CHAT: dict[str, Any] = {
    "model": "gpt-5",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is 17 + 25?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"name": "Oslo", "age": 1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": "auto",
    "max_tokens": 64,
    "seed": 7,
    "stop": ["END"],
    "stream": False,
    "stream_options": {"include_usage": True},
    "temperature": 0.7,
    "n": 1,
    "chat_template_kwargs": {"enable_thinking": False},
    "diffusion": DIFFUSION,
}
FORMED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Make JSON: name Max, age 41."}],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "person", "strict": True, "schema": SCHEMA},
    },
    "max_completion_tokens": 64,
    "reasoning_effort": "none",
}
COMPLETION: dict[str, Any] = {
    "model": "any",
    "prompt": "The sky is",
    "max_tokens": 64,
    "temperature": 0,
    "seed": 3,
    "stop": "\n",
    "stream": False,
    "echo": False,
}
INFILL: dict[str, Any] = {"prompt": "The sky is ", "suffix": " today.", "max_tokens": 8, "seed": 1}
RESPONSE: dict[str, Any] = {
    "model": "any",
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi?"}]},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
    ],
    "tools": [{"type": "function", "strict": True, **FUNCTION}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "store": False,
    "stream": False,
    "max_output_tokens": 64,
    "text": {"format": {"type": "text"}},
}
MESSAGE: dict[str, Any] = {
    "model": "claude-any",
    "max_tokens": 64,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hello?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"name": "x"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}],
        },
    ],
    "tools": [{"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto"},
    "stop_sequences": ["END"],
    "thinking": {"type": "disabled"},
    "temperature": 1,
    "stream": False,
    "metadata": {"user_id": "u"},
}
DECISION: dict[str, Any] = {
    "model": "jev-latest",
    "state": {"text": "It is down again."},
    "instructions": "Judge the mail.",
    "questions": {
        "urgent": {"type": "noul", "instructions": "Does it need a reply today?"},
        "team": {
            "type": "choice",
            "instructions": "Who?",
            "criteria": {"web": None, "pay": "money"},
        },
        "tone": {"type": "score", "instructions": "How?", "criteria": ["calm", "cross"]},
    },
    "samples": 1,
    "seed": 42,
}
VALID: dict[str, tuple[dict[str, Any], ...]] = {
    "/v1/chat/completions": (CHAT, FORMED),
    "/v1/completions": (COMPLETION, INFILL),
    "/v1/fim/completions": (INFILL,),
    "/v1/responses": (RESPONSE,),
    "/v1/messages": (MESSAGE,),
    "/v1/messages/count_tokens": (MESSAGE,),
    "/v1/systemone": (DECISION,),
}
