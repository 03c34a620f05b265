"""A clock of its own for a coroutine, and waiting for what happens."""

import asyncio
import time

import pytest
from waiting import wait_for, without_waiting


def test_an_hour_is_over_at_once_and_in_its_order() -> None:
    async def main() -> list[tuple[str, float]]:
        told: list[tuple[str, float]] = []
        clock = asyncio.get_running_loop().time

        async def tell(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            told.append((name, clock()))

        await asyncio.gather(tell("late", 3600), tell("soon", 0.5))
        return told

    before = time.process_time()
    assert without_waiting(main()) == [("soon", 0.5), ("late", 3600)]
    assert time.process_time() - before < 60


def test_who_sleeps_goes_on_when_all_others_wait() -> None:
    async def main() -> int:
        box: asyncio.Queue[int] = asyncio.Queue()
        seen = 0

        async def count() -> None:
            nonlocal seen
            while True:
                seen += await box.get()

        counting = asyncio.ensure_future(count())
        for _ in range(1000):
            box.put_nowait(1)
        await asyncio.sleep(1e-6)
        counting.cancel()
        return seen

    assert without_waiting(main()) == 1000


def test_what_nothing_can_end_is_an_error_and_no_endless_test() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing is left"):
        without_waiting(main())


def test_what_never_comes_true_is_an_error() -> None:
    with pytest.raises(AssertionError, match="not true within"):
        wait_for(lambda: False, 0.01)
