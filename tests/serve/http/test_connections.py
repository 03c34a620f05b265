"""The bound on open connections: who goes, and that others are answered meanwhile."""

import json
import resource
import socket
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from live import Running, running
from scripted import ScriptedEngine, said
from valid_requests import VALID
from waiting import SECONDS, wait_for

from mlx_diffgemma.serve.dialects.routes import DIALECTS
from mlx_diffgemma.serve.http import connections
from mlx_diffgemma.serve.http.connections import (
    FILES,
    MOST,
    files_allowed,
    in_excess,
    most_accepted,
    most_open,
)

CHAT = "/v1/chat/completions"


@dataclass
class Link:
    """A connection as the bound sees it."""

    idle: bool
    since: float


def limited(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int = resource.RLIM_INFINITY) -> None:
    """Have the process believe that it may open so many files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))


def test_who_has_been_idle_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    busy, old, young, newest = Link(False, 1), Link(True, 2), Link(True, 3), Link(True, 4)
    assert in_excess([newest, young, busy]) is None
    assert in_excess([newest, young, old, busy]) is old
    assert in_excess([newest, busy, busy, busy]) is newest
    assert in_excess([busy] * 4) is None


@pytest.mark.parametrize(
    ("soft", "most", "at_once"),
    [
        (256, 128, 16),
        (64, 32, 4),
        (2, 1, 1),
        (10**6, MOST, 128),
        (resource.RLIM_INFINITY, MOST, 128),
    ],
)
def test_the_bound_follows_from_the_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int, at_once: int
) -> None:
    limited(monkeypatch, soft)
    assert (most_open(), most_accepted()) == (most, at_once)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [(256, resource.RLIM_INFINITY, FILES), (256, 1000, 1000), (FILES, FILES * 2, None)],
)
def test_more_files_are_allowed_where_the_system_lets_them(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int | None
) -> None:
    limited(monkeypatch, soft, hard)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    with files_allowed():
        assert asked == ([] if wanted is None else [(wanted, hard)])
    assert asked[-1] == (soft, hard)


def test_a_system_that_does_not_let_them_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    limited(monkeypatch, 256)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with files_allowed():
        pass


def opened(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)


@pytest.mark.slow
def test_clients_that_ask_nothing_make_room_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST", 4)
    with (
        running(ScriptedEngine(lambda asked: said("Hello.")), DIALECTS) as server,
        ExitStack() as all_,
    ):
        links = [all_.enter_context(opened(server)) for _ in range(40)]
        with urllib.request.urlopen(f"{server.url}/health", timeout=SECONDS) as reply:
            assert json.load(reply)["status"] == "ready"
        for link in links[:30]:
            assert link.recv(1) == b""
        wait_for(lambda: len(server.server.server_state.connections) <= 4)


@pytest.mark.slow
def test_an_answer_that_is_under_way_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 2)
    body = json.dumps(VALID[CHAT][0]).encode()
    engine = ScriptedEngine(lambda asked: [0.5, *said("Hello", " there.")])
    with running(engine, DIALECTS) as server, ExitStack() as all_:
        asking = all_.enter_context(opened(server))
        lines = [f"POST {CHAT} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Connection: close"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
        asking.sendall(head + body)
        wait_for(lambda: server.worker.figures().places == 1)
        for _ in range(20):
            all_.enter_context(opened(server))
        assert b"Hello there." in b"".join(iter(lambda: asking.recv(65536), b""))
