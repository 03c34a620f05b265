"""Generated requests, most of them wrong somewhere; and what every reply has to be all the same."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from damage import odd_bytes, odd_json, spots, written
from valid_requests import VALID

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GET = ("/health", "/metrics", "/v1/models", "/v1/models/any", "/", "/favicon.ico")
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "x", "post")
PATHS = (
    *("/v1", "/v1/", "/v1/chat/completions/", "/v1/chat/completions?x=1", "/..%2f..%2fetc/passwd"),
    *("/v1/models/" + "a/" * 500, "/v1/models/\u2603", "//v1/messages", "/v1/messages/count_token"),
    *("/V1/messages", "/v1/systemone/", "/\x00", "/%00", "/static/../page.html"),
)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\n",
        "\x1b[31m",
        "x" * 5000,
        "🤖",
        "\u202e",
        "<turn|><|turn>system",
        "[[...]]",
    ),
    *("<|tool_call>call:x{}<tool_call|>", "[[", "[[0]]", "[[x:(]]", "{{ 7 * 7 }}", "{% raw %}"),
    *("data:image/png;base64,AAAA", "data:image/png;base64,!!", "http://127.0.0.1/x.png"),
    *(
        "file:///etc/passwd",
        "/etc/passwd",
        "auto",
        "none",
        "required",
        "text",
        "json_schema",
        "user",
    ),
    *("assistant", "tool", "system", "null", "NaN", "-1", "true", "\udcff\udcfe"[:0] + "é"),
)
NUMBERS = (
    *(0, -1, 1, 2, 7, 256, 2**31, 2**53, 2**63, 2**64, 2**70, -(2**63), 10**300, 1.0, 0.5, -0.0),
    *(1e-320, 1e308, -1e308, 5.0, 0.1),
)
SCHEMAS: tuple[Any, ...] = (
    {"type": "object"},
    {"type": "no such type"},
    {"$ref": "#"},
    {"$ref": "http://example.com/schema"},
    {"type": "string", "pattern": "(a+)+$"},
    {"type": "string", "pattern": "("},
    {"anyOf": []},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 10**9},
    {"enum": [1, "a", None]},
    {"type": "integer", "minimum": 5, "maximum": 1},
    {"not": {}},
)
TOKENS = ("gzip", "br", "zstd", "identity", "zstd, zstd", "x" * 2000, "", "*", "\xff", "ZSTD")
TYPES = (
    *(
        "application/json",
        "text/plain",
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
    ),
    *("multipart/form-data; boundary=xx", "application/x-www-form-urlencoded", "\xe4", "a;" * 900),
)
RAW = (
    *(
        b"",
        b"{",
        b"}",
        b"[",
        b"null",
        b"NaN",
        b"\xff\xfe\x00",
        b"\x00" * 50,
        b'"\\ud800"',
        b"\x28\xb5",
    ),
    *(
        b"[" * 3000,
        b'{"a":' * 3000,
        b"{}" * 3,
        b"1e999",
        b"9" * 5000,
        b'{"a":1,"a":2}',
        b"\xef\xbb\xbf{}",
    ),
    *(b"--xx\r\n", b"--xx--\r\n", b'{"model": "\\u0000"}', b"\x1f\x8b\x08\x00", b" " * 3000),
)


@dataclass(frozen=True)
class Asked:
    """A request; sound: nothing in it was changed."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sound: bool = False


def requests(seed: int, count: int) -> Iterator[Asked]:
    """So many requests; each depends on the seed and its number alone."""
    for number in range(count):
        yield request(random.Random(f"{seed} {number}"))


def request(rng: random.Random) -> Asked:
    """One request: sound, or wrong in one way or more."""
    path = rng.choice(tuple(VALID))
    value = copy.deepcopy(rng.choice(VALID[path]))
    kind = rng.random()
    if kind < 0.05:
        return Asked("POST", path, json.dumps(value).encode(), sound=True)
    if kind < 0.65:
        if kind < 0.25:
            value = odd_json(rng, value)
        else:
            for _ in range(rng.choice((1, 1, 1, 2, 4))):
                value = planted(rng, value)
        if rng.random() < 0.1 and isinstance(value, dict):
            value["stream"] = True
        return Asked("POST", path, written(rng, value))
    if kind < 0.75:
        return Asked("POST", path, odd_bytes(rng, json.dumps(value).encode()))
    if kind < 0.8:
        return Asked("POST", path, rng.choice(RAW))
    if kind < 0.9:
        return with_headers(rng, path, json.dumps(value).encode())
    path = rng.choice((*VALID, *GET, *PATHS))
    return Asked(
        rng.choice(METHODS), path, rng.choice((b"", rng.choice(RAW), json.dumps(value).encode()))
    )


def planted(rng: random.Random, value: Any) -> Any:
    """A value with something at one of its places that some route knows how to read."""
    there = list(spots(value)) if isinstance(value, dict | list) else []
    if not there or rng.random() < 0.02:
        return odd(rng)
    inside, key = rng.choice(there)
    match rng.randrange(5):
        case 0:
            inside[key] = [inside[key]]
        case 1:
            inside[key] = {"type": "text", "text": inside[key]}
        case 2 if isinstance(inside, list):
            inside.extend(copy.deepcopy(inside[:5]))
        case _:
            inside[key] = odd(rng)
    return value


def odd(rng: random.Random) -> Any:
    """A value that hardly any field takes."""
    match rng.randrange(9):
        case 0:
            return None
        case 1:
            return rng.choice((True, False))
        case 2 | 3:
            return rng.choice(NUMBERS)
        case 4 | 5:
            return rng.choice(TEXTS)
        case 6:
            return rng.choice(([], {}, [None], [[]], {"": {}}, [{}], ["a", 1], [0] * 500))
        case 7:
            return copy.deepcopy(rng.choice(SCHEMAS))
    deep: Any = rng.choice(([], {}))
    for _ in range(rng.choice((3, 40, 95, 200))):
        deep = rng.choice(([deep], {"a": deep}))
    return deep


def with_headers(rng: random.Random, path: str, body: bytes) -> Asked:
    """A request with headers that nobody should send."""
    headers: dict[str, str] = {}
    for _ in range(rng.choice((1, 1, 2))):
        match rng.randrange(7):
            case 0:
                headers["content-encoding"] = rng.choice(TOKENS)
            case 1:
                headers["content-type"] = rng.choice(TYPES)
            case 2:
                headers["host"] = rng.choice(
                    ("", "evil.example", "127.0.0.1", "[", "a:b:c", "\xff")
                )
            case 3:
                headers["origin"] = rng.choice(("null", "http://evil", "x" * 3000, "http://[", ""))
            case 4:
                headers["authorization"] = rng.choice(("Bearer", "Bearer \xff", "x", "Basic eA=="))
            case 5:
                headers["content-encoding"] = "zstd"
                body = zstd.compress(body)
                body = body if rng.random() < 0.3 else odd_bytes(rng, body)
            case 6:
                headers["content-length"] = rng.choice(("x", "-1", "9" * 30, "", "1,1", "\xb2"))
    return Asked("POST", path, body, headers)


# --- what a reply has to be


def require_fit(asked: Asked, status: int, content_type: str, body: bytes) -> None:
    """AssertionError for a reply that is no clean one."""
    path = asked.path
    assert 200 <= status < 500, (status, body[:500])
    assert not asked.sound or status == 200, (status, body[:500])
    for sign in (b"Traceback", b'File "', b".py", b"Error:", b"<html"):
        assert sign not in body or path == "/", body[:500]
    if asked.method == "HEAD" or status == 204:
        return
    if content_type.startswith("text/event-stream"):
        assert status == 200
        require_stream(body.decode())
    elif status == 200 and path in ("/", "/metrics"):
        assert content_type.startswith(("text/html", "text/plain"))
    else:
        assert content_type == "application/json", content_type
        value = json.loads(body)
        if status >= 400:
            require_shape(path, status, value)


def require_stream(text: str) -> None:
    """A stream of whole events, each of JSON, that has an end."""
    assert text.endswith("\n\n")
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    data = [line[6:] for event in events for line in event.split("\n") if line.startswith("data: ")]
    for each in data:
        assert each == "[DONE]" or isinstance(json.loads(each), dict)
    last = data[-1]
    ends = (
        "[DONE]",
        "message_stop",
        "response.completed",
        "response.incomplete",
        "error",
        "failed",
    )
    assert any(end in last for end in ends), last


def require_shape(path: str, status: int, value: Any) -> None:
    """A refusal in the shape of its path's family, its message one line."""
    if path.startswith("/v1/systemone") and path in ("/v1/systemone", "/v1/systemone/"):
        detail = value["detail"]
        if isinstance(detail, list):
            assert status == 422
            [told] = detail
            assert told["loc"][0] == "body"
            message = told["msg"]
        else:
            assert status != 422
            assert detail["error_type"]
            message = detail["message"]
    elif path == "/v1/messages" or path.startswith("/v1/messages/"):
        assert value["type"] == "error"
        assert value["error"]["type"]
        message = value["error"]["message"]
    else:
        assert set(value["error"]) == {"message", "type", "param", "code"}
        message = value["error"]["message"]
    assert message
    assert "\n" not in message
    assert len(message) < 2000
