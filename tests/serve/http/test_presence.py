"""The client of a request, as long as it is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from waiting import without_waiting

from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.http.presence import Presence


def told(story: Callable[[Presence, asyncio.Event], Awaitable[Any]]) -> Any:
    """What a story gives, of a client that goes when the event is set."""

    async def main() -> Any:
        going, messages = asyncio.Event(), 0

        async def receive() -> dict[str, Any]:
            nonlocal messages
            messages += 1
            if messages == 1:  # an empty rest of a body is no farewell
                return {"type": "http.request", "body": b"", "more_body": False}
            await going.wait()
            return {"type": "http.disconnect"}

        presence = Presence(receive)
        try:
            return await story(presence, going)
        finally:
            await presence.leave()

    return without_waiting(main())


def test_what_is_awaited_comes_while_the_client_is_there():
    async def story(presence, going):
        async def work() -> int:
            await asyncio.sleep(0.01)
            return 42

        assert not presence.gone
        return await presence.unless_gone(work())

    assert told(story) == 42


def test_an_error_of_what_is_awaited_is_its_own():
    async def story(presence, going):
        async def work() -> None:
            raise ValueError("a bug")

        await presence.unless_gone(work())

    with pytest.raises(ValueError, match="a bug"):
        told(story)


def test_what_is_awaited_is_given_up_when_the_client_goes():
    async def story(presence, going):
        work = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(0.01, going.set)
        with pytest.raises(Cancellation):
            await presence.unless_gone(work)
        await asyncio.sleep(0)
        assert presence.gone
        return work.cancelled()

    assert told(story)


def test_who_asks_is_called_once_when_the_client_goes_and_not_when_it_stays():
    async def goes(presence, going):
        calls = []
        presence.when_gone(lambda: calls.append(1))
        going.set()
        await asyncio.sleep(0.01)
        presence.when_gone(lambda: calls.append(2))  # it has gone already
        await asyncio.sleep(0.01)
        return calls

    async def stays(presence, going):
        calls = []
        presence.when_gone(lambda: calls.append(1))
        await presence.leave()
        await asyncio.sleep(0.01)
        assert not presence.gone
        return calls

    assert told(goes) == [1, 2]
    assert told(stays) == []
