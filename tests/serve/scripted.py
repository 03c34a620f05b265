"""An engine that does what a script says, so that all around it is tested without a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_diffgemma.decide.decision import Decision
from mlx_diffgemma.decide.request import Request
from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.engine.engine import (
    STOPPED,
    Cancellation,
    Cancelled,
    Counters,
    Facts,
    Stopping,
    going_on,
)
from mlx_diffgemma.serve.events import Begun, Done, Event, Finish, Text, Timings, Usage

FACTS = Facts("scripted", 2048, 64, 1_700_000_000, sees=False)
USAGE = Usage(prompt=12, completion=5)
TIMINGS = Timings(prefill=0.25, seconds=1.5, steps=3, tokens_per_step=5 / 3)

Step = Event | float | Exception
"""An event, seconds to sleep (the flag is looked at every 10 ms), or an error to raise."""


def done(finish: Finish = "stop", **changes: Any) -> Done:
    """The end of a scripted answer."""
    return Done(**{"finish": finish, "usage": USAGE, "timings": TIMINGS, "seed": 7, **changes})


def said(*texts: str) -> list[Step]:
    """A script of texts."""
    return [Begun(7, 12, 0), *map(Text, texts), done()]


@dataclass
class ScriptedEngine:
    """Answers with `script`: a list of steps, or a function from the question to one.

    A canvas ends with a text: a server that is about to end gets Done behind the next one.
    """

    script: Sequence[Step] | Callable[[Asked], Iterable[Step]] = field(
        default_factory=lambda: said("Hello", " there.")
    )
    facts: Facts = FACTS
    counters: Counters = field(default_factory=Counters)
    asked: list[Asked] = field(default_factory=list)
    cancelled: int = 0
    loads: int = 0
    unloads: int = 0
    decision: Callable[[Request], Decision] | None = None

    def prepare(self, asked: Asked) -> Asked:
        self.asked.append(asked)
        return asked

    def count(self, asked: Asked) -> int:
        return 12

    def answer(
        self, prepared: Asked, cancelled: Cancelled, stopping: Stopping = going_on
    ) -> Iterator[Event]:
        script = self.script(prepared) if callable(self.script) else self.script
        for step in script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                self._sleep(step, cancelled)
            elif cancelled():
                self._cancel()
            else:
                yield step
                if isinstance(step, Text) and stopping():
                    yield done("length", warnings=(STOPPED,))
                    return

    def decide(self, request: Request, cancelled: Cancelled) -> Decision:
        assert self.decision is not None
        return self.decision(request)

    def load(self) -> None:
        self.loads += 1

    def unload(self) -> None:
        self.unloads += 1

    def _sleep(self, seconds: float, cancelled: Cancelled) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if cancelled():
                self._cancel()
            time.sleep(min(0.01, max(0.0, end - time.monotonic())))

    def _cancel(self) -> None:
        self.cancelled += 1
        raise Cancellation
