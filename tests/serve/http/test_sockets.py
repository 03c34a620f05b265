"""What comes over a socket and is no request, or half of one: answered or closed, never a crash."""

import json
import logging
import random
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from live import Running, running
from scripted import ScriptedEngine, Step, said
from valid_requests import VALID
from waiting import SECONDS, wait_for

from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.dialects.routes import DIALECTS
from mlx_diffgemma.serve.http import protocol

CHAT = "/v1/chat/completions"
BODY = json.dumps(VALID[CHAT][0]).encode()
FEW, ALL = 25, 400


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(ScriptedEngine(lambda asked: said("Hello", " there.")), DIALECTS) as made:
        yield made


def head(server: Running, *more: str, length: int | None = None, path: str = CHAT) -> bytes:
    size = len(BODY) if length is None else length
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, *more, "", ""]).encode("latin-1")


def sent(server: Running, *pieces: bytes, patience: float = 0.1) -> bytes:
    """All that comes back; after so many silent seconds the sending side is closed."""
    found = b""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as link,
        suppress(OSError),
    ):
        for piece in pieces:
            link.sendall(piece)
        link.settimeout(patience)
        while True:
            try:
                chunk = link.recv(65536)
            except TimeoutError:
                link.shutdown(socket.SHUT_WR)
                link.settimeout(SECONDS)
                continue
            if not chunk:
                break
            found += chunk
    return found


def require_clean(reply: bytes) -> None:
    """Nothing, or replies of HTTP whose bodies are JSON."""
    if not reply:
        return
    top, _, body = reply.partition(b"\r\n\r\n")
    status, *headers = top.decode("latin-1").lower().split("\r\n")
    assert status.startswith("http/1.1 ")
    assert not status.split()[1].startswith("5"), reply[:300]
    assert "content-type: application/json" in headers, reply[:300]
    assert "x-content-type-options: nosniff" in headers
    assert not any(header.startswith("server:") for header in headers)
    assert b"Traceback" not in reply
    json.JSONDecoder().raw_decode(body.decode())


@pytest.mark.parametrize(
    "content",
    [b"", b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\xff" * 500, b"{}\n" * 50,
     b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
     b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 200_000,
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
     b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_answered_in_json_or_not_at_all(
    server: Running, content: bytes
) -> None:
    require_clean(sent(server, content))


def test_half_a_body_is_no_error_of_ours(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for path in VALID:
            assert sent(server, head(server, path=path), BODY[:20]) == b""
        assert [each for each in caplog.records if each.name.startswith("mlx_diffgemma")] == []
    wait_for(lambda: server.worker.figures().places == 0)


def test_two_requests_in_one_piece_get_two_replies(server: Running) -> None:
    last = head(server, "Connection: close")
    reply = sent(server, head(server) + BODY + last + BODY, patience=SECONDS)
    assert reply.count(b"HTTP/1.1 200") == 2


def test_garbage_behind_a_request_does_not_reach_its_reply(server: Running) -> None:
    reply = sent(server, head(server) + BODY + b"\x00garbage\r\n\r\n", patience=SECONDS)
    assert reply.startswith(b"HTTP/1.1 200")
    assert reply.count(b"HTTP/1.1 400") <= 1


def test_garbage_in_a_body_whose_reply_is_there_closes_the_connection(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """h11 would not let another reply be sent, and its error would end up in the log."""
    lines = f"POST /nowhere HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as link:
        link.sendall(f"{lines}Transfer-Encoding: chunked\r\n\r\n".encode())
        assert link.recv(65536).startswith(b"HTTP/1.1 404")
        link.sendall(b"zz\r\n\r\n")
        rest = b"".join(iter(lambda: link.recv(65536), b""))
    assert b"HTTP/1.1" not in rest
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_a_body_in_chunks_is_read(server: Running) -> None:
    lines = f"POST {CHAT} HTTP/1.1\r\nHost: localhost:{server.port}\r\nConnection: close\r\n"
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:100], BODY[100:])
    )
    start = f"{lines}Transfer-Encoding: chunked\r\n\r\n".encode()
    assert sent(server, start, chunks, b"0\r\n\r\n", patience=SECONDS).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("count", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_damaged_requests_leave_the_server_whole(
    server: Running, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A sound request with bytes changed, cut or doubled anywhere, its head too."""
    for number in range(count):
        rng = random.Random(f"sockets {number}")
        content = bytearray(head(server, "Connection: close") + BODY)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(content) if rng.random() < 0.3 else 120)
            match rng.randrange(3):
                case 0:
                    content[at] = rng.randrange(256)
                case 1:
                    del content[at : at + rng.choice((1, 3, 40))]
                case 2:
                    content[at:at] = rng.randbytes(rng.choice((1, 3, 40)))
        try:
            require_clean(sent(server, bytes(content)))
        except Exception as error:
            raise AssertionError(f"request {number}: {bytes(content)!r}") from error
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    wait_for(lambda: server.worker.figures().places == 0)
    whole = sent(server, head(server, "Connection: close") + BODY, patience=SECONDS)
    assert whole.startswith(b"HTTP/1.1 200")


# --- clients that never end what they began


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /hea", b"POST / HTTP/1.1\r\nHost: evil\r\nContent-Length: 99\r\n\r\nx",
     b"POST / HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "head",
     "again"],
    ids=str,
)  # fmt: skip
def test_a_request_that_never_ends_is_cut_off(
    server: Running, monkeypatch: pytest.MonkeyPatch, begun: bytes | str
) -> None:
    """However often a byte of it comes."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(protocol, name, 0.15)
    half = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\nGET /hea" % server.port
    whole = {"head": head(server), "again": half}.get(str(begun), begun)
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as link:
        with suppress(ConnectionError):
            link.sendall(whole if isinstance(whole, bytes) else b"")
        wait_for(lambda: is_cut_off(link, b"" if not begun else b"x"))


def is_cut_off(link: socket.socket, more: bytes) -> bool:
    """True where the server has closed a connection; else it gets `more`."""
    link.settimeout(0.05)
    try:
        while link.recv(65536):
            pass
    except TimeoutError:
        with suppress(ConnectionError):
            link.sendall(more)
        return False
    except ConnectionError:
        pass
    return True


def test_a_request_that_has_come_is_answered_however_long_that_takes() -> None:
    """No limit of time is left behind its last byte."""
    limits: list[object] = []

    def script(asked: Asked) -> list[Step]:
        limits.extend(link._due for link in made.server.server_state.connections)
        return said("Hello", " there.")

    with running(ScriptedEngine(script), DIALECTS) as made:
        reply = sent(made, head(made, "Connection: close"), BODY, patience=SECONDS)
    assert b"Hello there." in reply
    assert limits == [None]


@pytest.mark.parametrize(
    ("path", "status"), [(CHAT, b"503"), ("/v1/messages", b"529"), ("/v1/systemone", b"503")]
)
def test_a_body_that_has_not_come_when_the_server_ends_is_told_so(path: str, status: bytes) -> None:
    """It is no error of the server's that a client should report."""
    with (
        running(ScriptedEngine(), DIALECTS) as made,
        socket.create_connection(("127.0.0.1", made.port), timeout=SECONDS) as link,
    ):
        link.sendall(head(made, path=path) + BODY[:5])
        wait_for(lambda: len(made.server.server_state.tasks) == 1)
        made.server.should_exit = True
        reply = b"".join(iter(lambda: link.recv(65536), b""))
    assert reply.split()[1] == status
    assert b"retry-after: 10" in reply.lower()
    assert "stopping" in json.dumps(json.loads(reply.partition(b"\r\n\r\n")[2]))
