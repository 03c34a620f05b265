"""The objects of a response: items of output, usage, and the response around them."""

from __future__ import annotations

from typing import Any, Literal

from ....constrain.calls import ANY_TOOL, CHOICES
from ...asked import Asked, Chat
from ...events import Answer, Call, Done, Usage
from ...families import OPENAI
from ...refusal import Refusal
from ..dialect import Envelope, compact
from ..extras import done_fields

Item = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]


def output_text(text: str) -> Item:
    """A part of a message's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(ident: str, content: list[Item], status: Status) -> Item:
    """A message of the model's."""
    told = {"id": ident, "type": "message", "role": "assistant"}
    return {**told, "status": status, "content": content}


def reasoning_item(ident: str, text: str, status: Status) -> Item:
    """A thought, whole, as the summary that it would be of: most clients show nothing else."""
    summary = [summary_part(text)] if text else []
    return {"id": ident, "type": "reasoning", "status": status, "summary": summary}


def summary_part(text: str) -> Item:
    """The only part of a thought."""
    return {"type": "summary_text", "text": text}


def call_item(call: Call, arguments: str, status: Status) -> Item:
    """A call; arguments: as JSON, "" for those that are still to come."""
    idents = {"id": f"fc_{call.key}", "call_id": f"call_{call.key}"}
    told = {"type": "function_call", "name": call.name, "arguments": arguments}
    return {**idents, **told, "status": status}


def items_of(answer: Answer, envelope: Envelope) -> list[Item]:
    """The items of an answer that is not streamed, under the ids that a stream gives them."""
    output: list[Item] = []
    if answer.thought:
        output.append(reasoning_item(item_id("rs", envelope, 0), answer.thought, "completed"))
    if answer.text:
        ident = item_id("msg", envelope, len(output))
        output.append(message_item(ident, [output_text(answer.text)], "completed"))
    if output and not answer.calls and answer.done is not None and answer.done.finish == "length":
        output[-1]["status"] = "incomplete"
    return output + [call_item(call, compact(call.arguments), "completed") for call in answer.calls]


def item_id(prefix: str, envelope: Envelope, index: int) -> str:
    """The id of an item that stands at an index of the output."""
    return f"{prefix}_{envelope.key}_{index}"


def response_object(envelope: Envelope, asked: Asked) -> Item:
    """A response that is in progress, with what was asked of it."""
    return {
        "id": f"resp_{envelope.key}",
        "object": "response",
        "created_at": envelope.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": envelope.model,
        "output": [],
        "usage": None,
        "previous_response_id": None,
        "store": False,
        "metadata": {},
        "truncation": "disabled",
        "max_output_tokens": asked.settings.max_tokens,
        "temperature": asked.settings.temperature,
        "top_p": asked.settings.top_p,
        **_of_chat(asked if isinstance(asked, Chat) else Chat()),
    }


def ended(response: Item, output: list[Item], done: Done) -> Item:
    """A response with its end: whole, or cut at the tokens that it may have."""
    cut = done.finish == "length"
    return {
        **response,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": _usage_of(done.usage),
        **done_fields(done),
    }


def failed(response: Item, output: list[Item], refusal: Refusal) -> Item:
    """A response that cannot go on."""
    error = {"code": _code_of(refusal), "message": str(refusal)}
    return {**response, "status": "failed", "error": error, "output": output}


def _code_of(refusal: Refusal) -> str:
    """The code of a failure: of those that the API knows, since clients retry by it."""
    if refusal.kind == "full":
        return "rate_limit_exceeded"
    if refusal.kind == "context":
        return str(OPENAI.names["context"].code)
    return "invalid_prompt" if refusal.kind == "invalid" else "server_error"


def _of_chat(chat: Chat) -> Item:
    form: Item = {"type": "text"}
    if chat.wanted.schema is not None:
        form = {"type": "json_schema", "name": "answer", "schema": chat.wanted.schema}
    choice, tools = chat.wanted.tool_choice, [_flat(tool) for tool in chat.wanted.tools]
    named = {"type": "function", "name": choice}
    return {
        "parallel_tool_calls": not chat.one_call,
        "text": {"format": form},
        "tool_choice": (choice if choice in CHOICES else named) if tools else ANY_TOOL,
        "tools": tools,
    }


def _flat(tool: Any) -> Item:
    return {"type": "function", **tool.get("function", tool)}


def _usage_of(usage: Usage) -> Item:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.thought},
        "total_tokens": usage.prompt + usage.completion,
    }
