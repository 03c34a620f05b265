"""Requests whose tokens are counted: many at once, and clients that go."""

import http.client
import json
import threading
from dataclasses import dataclass, field

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
        clients = [Client(server.port, COUNT_PATH, messages=HELLO) for _ in range(MOST)]
        wait_for(lambda: _status(server.port) == 429)
        for client in clients[1:]:
            client.close()
        wait_for(lambda: len(server.server.server_state.connections) == 1)
        with clients[0] as first, Client(server.port, COUNT_PATH, messages=HELLO) as another:
            engine.gate.set()
            for client in (first, another):  # a place is free again
                assert client.head()[0] == 200
                assert client.body() == {"input_tokens": 12}
    assert engine.counts < MOST


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
