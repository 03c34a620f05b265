"""A dialect that says what happens, line by line, and a client that can read as it likes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

from waiting import SECONDS

from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.serve.asked import Asked, Completion
from mlx_diffgemma.serve.dialects.dialect import COMMENT, Dialect, Envelope, sse
from mlx_diffgemma.serve.dialects.fields import Fields
from mlx_diffgemma.serve.engine.engine import Facts
from mlx_diffgemma.serve.events import Answer, Begun, Done, Draft, Event, Failed, Text
from mlx_diffgemma.serve.families import OPENAI

PATH = "/plain"


def read(fields: Fields, facts: Facts) -> Asked:
    return Completion(
        settings=Settings(max_tokens=fields.whole("max_tokens")),
        prompt=fields.needed_text("prompt"),
        drafts=fields.flag("drafts") or False,
        stream=fields.flag("stream") or False,
    )


class PlainEncoder:
    """One word for each event; an Answer is its text."""

    def __init__(self, envelope: Envelope, asked: Asked) -> None:
        self.key = envelope.key

    def opening(self) -> Iterator[str]:
        yield sse({"open": self.key})

    def encode(self, event: Event) -> Iterator[str]:
        if isinstance(event, Begun):
            yield sse({"begun": event.cached_tokens})
        elif isinstance(event, Text):
            yield sse({"text": event.text})
        elif isinstance(event, Draft):
            yield sse({"draft": event.text})
        elif isinstance(event, Done):
            yield sse({"done": event.finish, "warnings": event.warnings})
            yield "data: [DONE]\n\n"
        elif isinstance(event, Failed):
            yield sse(OPENAI.body(event.refusal))

    def ping(self) -> str:
        return COMMENT

    def whole(self, answer: Answer) -> dict[str, Any]:
        assert answer.done
        warnings = answer.done.warnings
        return {"key": self.key, "text": answer.text, "done": answer.done.finish, "w": warnings}


PLAIN = Dialect(PATH, read, PlainEncoder, OPENAI)


class Client:
    """A socket with one request on its way, read as slowly as the test likes.

    timeout: seconds of silence after which a read is a TimeoutError. buffer: bytes that the kernel
    takes in for it.
    """

    def __init__(
        self,
        port: int,
        path: str = PATH,
        timeout: float = SECONDS,
        buffer: int | None = None,
        **body: Any,
    ) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        content = json.dumps({"prompt": "?", "stream": True, **body}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        length = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        self.socket.sendall((head + length).encode() + content)

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the reply."""
        status = int(self.file.readline().split()[1])
        lines = iter(lambda: self.file.readline().decode().rstrip(), "")
        return status, dict(line.lower().split(": ", 1) for line in lines)

    def lines(self) -> Iterator[str]:
        """The lines of a stream that say something, as they come, without chunk sizes."""
        while size := int(self.file.readline() or b"0", 16):
            yield from self.file.read(size + 2).decode().split("\n\n")[:-1]

    def body(self) -> Any:
        """The JSON of a reply that is no stream."""
        return json.loads(self.file.read())

    def close(self) -> None:
        """Go, whatever is still to come."""
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def words(lines: Iterator[str]) -> list[Any]:
    """What a stream says, without its pings: objects, and [DONE]."""
    said = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    return [line if line == "[DONE]" else json.loads(line) for line in said]
