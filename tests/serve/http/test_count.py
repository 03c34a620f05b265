"""Requests whose tokens are counted: many at once, and clients that go."""

import http.client
import json
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from live import running
from plain_dialect import Client
from scripted import ScriptedEngine
from waiting import SECONDS, wait_for

from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.http.count import COUNT_PATH, MOST

HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class Counting(ScriptedEngine):
    """Counts once the gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    counts: int = 0

    def count(self, asked: Asked) -> int:
        self.counts += 1
        assert self.gate.wait(SECONDS)
        return 12


def test_a_flood_of_counts_is_sent_away_and_who_goes_is_not_counted():
    engine = Counting()
    with running(engine) as server:
        submitted = _submitted(server.host.desk)
        clients = [Client(server.port, COUNT_PATH, messages=HELLO) for _ in range(MOST)]
        wait_for(lambda: _status(server.port) == 429)
        for client in clients[1:]:
            client.close()
        # The first one may wait behind one that is being counted for nobody.
        wait_for(lambda: sum(not each.done() for each in submitted) <= 2)
        with clients[0] as first, Client(server.port, COUNT_PATH, messages=HELLO) as another:
            engine.gate.set()
            for client in (first, another):  # a place is free again
                assert client.head()[0] == 200
                assert client.body() == {"input_tokens": 12}
    assert engine.counts < MOST


def _submitted(desk: Any) -> list[Future[Any]]:
    """All that the desk is asked to do from now on."""
    found: list[Future[Any]] = []
    submit = desk.submit

    def noted(*asked: Any) -> Future[Any]:
        found.append(future := submit(*asked))
        return future

    desk.submit = noted
    return found


def _status(port: int, timeout: float = 0.5) -> int | None:
    """The status of one more; None where there is none in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", COUNT_PATH, json.dumps({"messages": HELLO}))
        return connection.getresponse().status
    except TimeoutError:
        return None
    finally:
        connection.close()
