"""A request of the Messages API as a question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ....errors import brief
from ...asked import Chat
from ...engine.engine import Facts
from ...refusal import Refusal
from ..content import joined
from ..fields import Fields
from ..sampling import read_limit, read_sampling
from .blocks import Blocks
from .options import read_think, read_wanted

BILLING = "x-anthropic-billing-header:"
"""The line that Claude Code begins its system text with; it differs from request to request, so
that no prefix of two would be the same."""

ROLES = ("user", "assistant", "system")
NOT_DONE = ("mcp_servers", "context_management", "container")


def read(fields: Fields, facts: Facts) -> Chat:
    """The question of a request; Refusal for what is no request."""
    _require_no_thread(fields)
    blocks = Blocks()
    messages = tuple(_messages(fields, blocks))
    sampling = read_sampling(fields, facts, read_limit(fields, "max_tokens"), stop="stop_sequences")
    think, about_thoughts = read_think(fields)
    wanted, one_call, about_tools = read_wanted(fields, sampling.settings.stop)
    lines = (*sampling.warnings, *about_thoughts, *about_tools, *_not_done(fields))
    return Chat(
        settings=sampling.settings,
        warnings=(*lines, *blocks.left.lines()),
        drafts=sampling.drafts,
        stream=bool(fields.flag("stream")),
        messages=messages,
        images=tuple(blocks.images.found),
        image_tokens=sampling.image_tokens,
        wanted=wanted,
        think=think,
        one_call=one_call,
    )


def _require_no_thread(fields: Fields) -> None:
    """Refusal for a request in a thread, which Anthropic's servers store and this one does not.

    The SDK's tool runner asks for one; by the code it learns to send whole conversations.
    """
    if fields.has("thread"):
        said = "thread is given, and nothing is stored here; send the whole conversation, without."
        raise Refusal("invalid", said, "thread", code="thread_unsupported_request")


def _messages(fields: Fields, blocks: Blocks) -> Iterator[dict[str, Any]]:
    """The system text, then all messages."""
    if system := _system(fields, blocks, "system"):
        yield {"role": "system", "content": system}
    messages = fields.objects("messages")
    if not messages:
        raise fields.wrong("messages", "a list of at least one message")
    for message in messages:
        yield from _turns(message, blocks)


def _system(holder: Fields, blocks: Blocks, name: str) -> str:
    """A system text of one or several blocks, with an empty line between them."""
    texts = []
    for block in blocks.of(holder, name):
        if block.needed_text("type") != "text":
            raise block.wrong("type", "text: a system text has nothing else")
        texts.append(_without_billing(block.needed_text("text")))
    return "\n\n".join(filter(str.strip, texts))


def _without_billing(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(BILLING) else text


def _turns(message: Fields, blocks: Blocks) -> Iterator[dict[str, Any]]:
    role = message.one_of("role", ROLES)
    if role is None or not message.has("content"):
        raise message.wrong("role" if role is None else "content", "a message has both")
    if role == "system":
        yield {"role": "system", "content": _system(message, blocks, "content")}
    elif role == "assistant":
        yield _assistant(blocks.of(message), blocks)
    else:
        yield from _user(message, blocks)


def _user(message: Fields, blocks: Blocks) -> Iterator[dict[str, Any]]:
    """The results of tools, and then what else a user's message says."""
    given = blocks.of(message)
    results = [block for block in given if block.value.get("type") == "tool_result"]
    yield from map(blocks.result, results)
    rest = [block for block in given if block.value.get("type") != "tool_result"]
    parts = blocks.parts(rest)
    if parts or not results:
        if rest and not parts:
            raise message.wrong("content", "text, images or results of tools among it")
        yield {"role": "user", "content": joined(parts)}


def _assistant(given: tuple[Fields, ...], blocks: Blocks) -> dict[str, Any]:
    """An earlier answer: its thought, its text and its calls."""
    thoughts, calls, rest = [], [], []
    for block in given:
        kind = block.value.get("type")
        if kind == "thinking":
            thoughts.append(block.needed_text("thinking"))
        elif kind == "tool_use":
            calls.append(blocks.call(block))
        elif kind != "redacted_thinking":
            rest.append(block)
    turn: dict[str, Any] = {"role": "assistant", "content": joined(blocks.parts(rest))}
    if thoughts:
        turn["reasoning_content"] = "\n".join(thoughts)
    return {**turn, "tool_calls": calls} if calls else turn


def _not_done(fields: Fields) -> Iterator[str]:
    """A line for each thing that is asked for and that only Anthropic's servers do."""
    for name in NOT_DONE:
        if fields.has(name) and fields.value[name] not in ([], {}, ""):
            yield f"{name} is {brief(fields.value[name])}, and is not used here."
    last = fields.objects("messages")[-1]
    if last.value["role"] == "assistant":
        yield f"{last.path} is an assistant's and the last; the answer does not go on from it."
