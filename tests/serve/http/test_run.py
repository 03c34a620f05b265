"""The run of a server in one process."""

import asyncio
import sys

import pytest
from scripted import ScriptedEngine
from waiting import wait_for

from mlx_diffgemma.serve.engine.worker import Worker
from mlx_diffgemma.serve.http.address import bind, find_place
from mlx_diffgemma.serve.http.run import Running


async def nothing(scope: object, receive: object, send: object) -> None:
    """An application that nobody asks."""


def test_threads_take_turns_sooner_while_a_server_runs():
    before, worker = sys.getswitchinterval(), Worker(ScriptedEngine())
    with bind(find_place("127.0.0.1", 0)) as listening:
        running = Running(nothing, worker, listening)

        def ready() -> None:
            assert sys.getswitchinterval() == pytest.approx(0.001)
            running.stop()

        asyncio.run(running.serve(ready))
    assert sys.getswitchinterval() == before
    wait_for(lambda: worker.join(0))
