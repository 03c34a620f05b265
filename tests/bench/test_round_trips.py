"""The host's waits for arrays: what is counted, what is not, and where."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = str(ROOT / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

from round_trips import counted  # noqa: E402

HERE = "tests/bench/test_round_trips.py"


@pytest.mark.parametrize(
    ("wait", "what", "number"),
    [
        (lambda x: mx.eval(x, x), "mx.eval", 1),
        (lambda x: mx.synchronize(), "mx.synchronize", 1),
        (lambda x: x[0].item(), "item", 1),
        (lambda x: x.tolist(), "tolist", 1),
        (lambda x: int(x[0]), "__int__", 1),
        (lambda x: float(x[0]), "__float__", 1),
        (lambda x: bool(x[0]), "__bool__", 1),
        (lambda x: "abc"[x[0]], "__index__", 1),
        (lambda x: repr(x), "__repr__", 1),
        (lambda x: np.array(x), "np.array", 1),
        (lambda x: np.asarray(x), "np.asarray", 1),
        (lambda x: np.flatnonzero(x), "np.flatnonzero", 1),
        (lambda x: np.concatenate([x, x]), "np.concatenate", 2),
        (lambda x: np.from_dlpack(x), "np.from_dlpack", 1),
    ],
)
def test_waits(wait: Callable[[mx.array], Any], what: str, number: int) -> None:
    x = mx.array([1, 2])
    with counted() as trips:
        wait(x)
    ((place, found),) = trips.places.items()
    assert (place.split()[1], found) == (what, number)


def test_a_place_is_the_callers_line() -> None:
    with counted() as trips:
        for _ in range(3):
            np.array(mx.array([1]))
        int(mx.array(1))
    first, second = trips.take().items()
    assert (first[1], second[1]) == (3, 1)
    assert first[0].startswith(f"{HERE}:")
    lines = [int(place.split()[0].partition(":")[2]) for place, _ in (first, second)]
    assert lines[1] - lines[0] == 1
    assert trips.take().total() == 0


def test_the_package_sees_a_counted_memoryview() -> None:
    from mlx_diffgemma.generation import frame

    with counted() as trips:
        view: Any = vars(frame)["memoryview"]
        assert view(mx.array([1, 2], mx.int32)).nbytes == 8
        assert view(b"abc").nbytes == 3
    assert trips.places.total() == 1
    assert "memoryview" not in vars(frame)


def test_what_does_not_wait_is_not_counted() -> None:
    x = mx.array([1.0, 2.0])
    with counted() as trips:
        mx.async_eval(x + 1)
        assert len(x) == x.size == 2
        assert x.shape == (x + x).shape
        np.array([1, 2]) + np.zeros(2)
        for row in x:
            assert row.ndim == 0
    assert not trips.places


def test_files_that_are_ignored() -> None:
    with counted([ROOT / "tests" / "bench"]) as trips:
        np.array(mx.array([1]))
    assert not trips.places


def test_everything_is_put_back() -> None:
    names = ("item", "tolist", "__int__", "__repr__")
    before = [mx.eval, np.array, *(getattr(mx.array, name) for name in names)]
    with counted() as trips:
        pass
    after = [mx.eval, np.array, *(getattr(mx.array, name) for name in names)]
    assert all(one is other for one, other in zip(before, after, strict=True))
    mx.eval(mx.array(1))
    assert not trips.places
