"""Clients of a load test: one request each, behaved well or badly."""

import contextlib
import http.client
import json
import random
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from serve_requests import MALFORMED, Route, ended, own_words, text_of_stream

PATIENCE = 120.0  # seconds of silence after which an answer is lost
KINDS = {
    "whole": 5,
    "stream": 7,
    "slow": 2,  # reads a few bytes at a time
    "leaves": 4,  # at some time of the answer
    "hangs up": 2,  # in the middle of its own body
    "malformed": 4,
}
"""Kinds of requests, and how many of 24 are of each."""


@dataclass(frozen=True)
class Call:
    """A request of a load test. seed: of the answer, and of what the client does."""

    number: int
    kind: str
    route: Route
    question: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The end of a request. status: None where no reply came, or none was waited for.

    text: of the answer; ended: the reply came to its end; silence: the longest, in seconds, between
    two lines of a stream; error: of the connection.
    """

    call: Call
    status: int | None = None
    text: str | None = None
    ended: bool = False
    ids: tuple[str, ...] = ()
    silence: float = 0.0
    seconds: float = 0.0
    error: str | None = None

    @property
    def is_own(self) -> bool:
        """True unless an answer repeats another question than its own."""
        own = own_words(self.call.route, self.call.question)
        return self.text is None or own is None or self.text.startswith(own)


@dataclass
class Reading:
    """A reply, as far as it was read."""

    lines: list[str] = field(default_factory=list)
    silence: float = 0.0


def run(port: int, call: Call) -> Outcome:
    """Send a request, and do with its reply what its kind does."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        outcome = _run(connection, call)
    except (OSError, http.client.HTTPException) as error:
        outcome = Outcome(call, error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    return Outcome(**{**vars(outcome), "seconds": time.perf_counter() - began})


def ask_alone(port: int, call: Call) -> str:
    """The text of the same question with the same seed, when nothing else is going on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        _send(connection, call.route, json.dumps(_body(call, stream=False)).encode())
        return call.route.whole(json.loads(connection.getresponse().read()))


def _run(connection: http.client.HTTPConnection, call: Call) -> Outcome:
    rng = random.Random(call.seed)
    if call.kind == "malformed":
        _send(connection, call.route, rng.choice(MALFORMED))
        reply = connection.getresponse()
        error = json.loads(reply.read())
        return Outcome(call, reply.status, ended=not reply.isclosed() or bool(error))
    streams = call.route.streams and call.kind != "whole"
    body = json.dumps(_body(call, stream=streams)).encode()
    if call.kind == "hangs up":
        return _hang_up(connection, call, body)
    if call.kind == "slow":
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    _send(connection, call.route, body)
    if call.kind == "leaves":
        time.sleep(rng.uniform(0.0, 0.6))
        return Outcome(call)
    return _read(connection.getresponse(), call, streams)


def _body(call: Call, *, stream: bool) -> dict[str, Any]:
    body = call.route.asks(call.question, call.seed)
    if not stream:
        return body
    return {**body, "stream": True, "diffusion": {"drafts": call.number % 2 == 0}}


def _send(connection: http.client.HTTPConnection, route: Route, body: bytes) -> None:
    connection.request("POST", route.path, body, {"Content-Type": "application/json"})


def _hang_up(connection: http.client.HTTPConnection, call: Call, body: bytes) -> Outcome:
    connection.putrequest("POST", call.route.path)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) // 2])
    return Outcome(call)


def _read(reply: http.client.HTTPResponse, call: Call, streams: bool) -> Outcome:
    """A reply read to its end."""
    key = next((v for n, v in reply.getheaders() if n.lower().endswith("request-id")), "")
    if reply.status != 200 or not streams:
        body = json.loads(reply.read())
        text = call.route.whole(body) if reply.status == 200 else None
        return Outcome(call, reply.status, text, True, _ids(key, [body]))
    reading = _read_lines(reply, slow=call.kind == "slow")
    said = [json.loads(x[6:]) for x in reading.lines if x.startswith("data: {")]
    text, over = text_of_stream(call.route, reading.lines), ended(call.route, reading.lines)
    failed = any("error" in each for each in said)
    ids = _ids(key, said)
    return Outcome(call, reply.status, None if failed else text, over, ids, reading.silence)


def _read_lines(reply: http.client.HTTPResponse, slow: bool) -> Reading:
    reading, came = Reading(), time.perf_counter()
    while line := reply.readline():
        now = time.perf_counter()
        reading.silence, came = max(reading.silence, now - came), now
        reading.lines.append(line.decode().rstrip("\n"))
        if slow:
            time.sleep(0.02)
            came = time.perf_counter()
    return reading


def _ids(key: str, said: list[Any]) -> tuple[str, ...]:
    """The different ids in a reply; key: of its request, as its headers have it."""
    found = {key}
    for each in said:
        message = each.get("message") or each.get("response") or each
        if isinstance(message, dict) and isinstance(named := message.get("id"), str):
            found.add(named.rpartition("-")[2].rpartition("_")[2])
    return tuple(sorted(found))
