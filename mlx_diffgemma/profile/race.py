"""Works that are timed in turn, so that whatever disturbs the machine disturbs all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

WARM_UP, ROUNDS = 1, 7

Work = Callable[[], object]


def race(
    works: Mapping[Any, Work], clock: Callable[[], float] = time.perf_counter
) -> dict[Any, list[float]]:
    """Seconds of each work, run in turn and every second round backwards: drift hits all alike."""
    samples: dict[Any, list[float]] = {name: [] for name in works}
    for number in range(WARM_UP + ROUNDS):
        for name in list(works)[:: -1 if number % 2 else 1]:
            began = clock()
            works[name]()
            if number >= WARM_UP:
                samples[name].append(clock() - began)
    return samples
