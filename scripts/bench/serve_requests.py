"""Requests of a load test: sums in every dialect, and how the answers in them are read."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 64


@dataclass(frozen=True)
class Route:
    """A path, the body that asks a question there, and where the answer stands.

    whole: the text in a body; delta: the text in an event of a stream; ends: the words that one of
    its last lines holds; streams: False for a route that has none.
    """

    path: str
    asks: Callable[[str, int], dict[str, Any]]
    whole: Callable[[Any], str]
    delta: Callable[[Any], str] = lambda event: ""
    ends: Sequence[str] = ()
    streams: bool = True


def _chat(question: str, seed: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "gpt-4o", "messages": messages, "seed": seed, "max_tokens": MAX_TOKENS}


def _responses(question: str, seed: int) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": question, "seed": seed, "max_output_tokens": MAX_TOKENS}


def _messages(question: str, seed: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "claude-x", "messages": messages, "seed": seed, "max_tokens": MAX_TOKENS}


def _gap(question: str, seed: int) -> dict[str, Any]:
    a, _, b = question.removeprefix("What is ").removesuffix("?").split()
    body = {"prompt": f"{a} + {b} =", "suffix": "\n", "seed": seed, "max_tokens": 16}
    return {"model": "gpt-4o", **body}


def _decision(question: str, seed: int) -> dict[str, Any]:
    asked = {"q": {"type": "noul", "instructions": "Is the sum even?"}}
    return {"model": "jev-latest", "state": question, "questions": asked, "seed": seed}


def _counting(question: str, seed: int) -> dict[str, Any]:
    return {"model": "claude-x", "messages": [{"role": "user", "content": question}]}


def _spoken(items: Any) -> Iterator[str]:
    for item in items:
        yield from (part.get("text", "") for part in item.get("content", ()))


ROUTES = (
    Route(
        "/v1/chat/completions",
        _chat,
        lambda body: body["choices"][0]["message"]["content"],
        lambda event: "".join(c["delta"].get("content") or "" for c in event.get("choices", ())),
        ("[DONE]",),
    ),
    Route(
        "/v1/responses",
        _responses,
        lambda body: "".join(_spoken(body["output"])),
        lambda event: event["delta"] if event.get("type") == "response.output_text.delta" else "",
        ("response.completed", "response.incomplete", "[DONE]"),
    ),
    Route(
        "/v1/messages",
        _messages,
        lambda body: "".join(block.get("text", "") for block in body["content"]),
        lambda event: (event.get("delta") or {}).get("text", ""),
        ("message_stop",),
    ),
    Route(
        "/v1/completions",
        _gap,
        lambda body: body["choices"][0]["text"],
        lambda event: "".join(choice["text"] for choice in event.get("choices", ())),
        ("[DONE]",),
    ),
    Route("/v1/systemone", _decision, lambda body: json.dumps(body["answers"]), streams=False),
    Route(
        "/v1/messages/count_tokens",
        _counting,
        lambda body: f"{body['input_tokens']}",
        streams=False,
    ),
)

MALFORMED: Sequence[bytes] = (
    b"",
    b"{",
    b"[1, 2]",
    b'{"messages": "Hello"}',
    b'{"messages": [], "seed": "x"}',
    b'{"messages": [{"role": "nobody", "content": 3}], "input": 3, "max_tokens": -1}',
    b"\xff\xfe{}",
    b"[" * 5000,
    b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1e400, "temperature": NaN}',
)
"""Bodies that no route can take."""


def text_of_stream(route: Route, lines: Sequence[str]) -> str:
    """The text in the lines of a stream."""
    said = (line.removeprefix("data: ") for line in lines if line.startswith("data: {"))
    return "".join(route.delta(json.loads(line)) for line in said)


def ended(route: Route, lines: Sequence[str]) -> bool:
    """True where a stream has its end: its dialect's last event, or an error."""
    tail = " ".join(lines[-3:])
    failed = ('data: {"error":{', "event: error", "event: response.failed")
    return any(word in tail for word in (*route.ends, *failed))


def own_words(route: Route, question: str) -> str | None:
    """The words that the answer to a sum begins with; None on routes that repeat nothing of it."""
    repeats = route.path in ("/v1/chat/completions", "/v1/responses", "/v1/messages")
    return question.removeprefix("What is ").removesuffix("?") if repeats else None
