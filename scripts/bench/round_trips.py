"""Count where the host waits for arrays: evaluations, and reads by Python or numpy.

Counted are calls of mx.eval and mx.synchronize; what turns an array into numbers (item, tolist,
int(), float(), bool(), repr()); its memory given away (memoryview, DLPack, pickle); and every plain
function of numpy that gets an array or a sequence with arrays in it, one for each. mx.async_eval
does not wait. Not seen are numpy's types and ufuncs that are given an array as it is.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np

EVALUATIONS = ("eval", "synchronize")
METHODS = (
    *("item", "tolist", "__int__", "__float__", "__bool__", "__index__", "__complex__"),
    *("__repr__", "__str__", "__bytes__", "__array__", "__dlpack__", "__getstate__"),
)
PACKAGE = "mlx_diffgemma"
ROOT = Path(__file__).parents[2]
OWN = (str(Path(__file__).resolve()), str(Path(np.__file__).parent))


@dataclass
class RoundTrips:
    """The waits so far: "file:line what" -> their number."""

    ignored: tuple[str, ...]
    places: Counter[str] = field(default_factory=Counter)
    inside: bool = False

    def take(self) -> Counter[str]:
        """The waits since the last call of this."""
        taken, self.places = self.places, Counter()
        return taken

    def watched(
        self, call: Callable[..., Any], what: str, waits: Callable[..., int]
    ) -> Callable[..., Any]:
        """`call`, counted by as many waits as `waits` finds in its arguments; not those within."""

        def run(*args: Any, **kwargs: Any) -> Any:
            number = 0 if self.inside else waits(*args)
            place = _place(self.ignored) if number else None
            if place is None:
                return call(*args, **kwargs)
            self.places[f"{place} {what}"] += number
            self.inside = True
            try:
                return call(*args, **kwargs)
            finally:
                self.inside = False

        return run


@contextmanager
def counted(ignored: Sequence[Path] = ()) -> Iterator[RoundTrips]:
    """Inside, waits are counted; those of files below one of the folders `ignored` are not."""
    trips = RoundTrips(tuple(str(folder.resolve()) for folder in ignored))
    array_type: Any = mx.array
    watched = [
        *((mx, name, f"mx.{name}", _always) for name in EVALUATIONS),
        *((array_type, name, name, _always) for name in METHODS),
        *((np, name, f"np.{name}", _arrays) for name in _numpy_functions()),
    ]
    with ExitStack() as stack:
        for owner, name, what, waits in watched:
            counting = trips.watched(getattr(owner, name), what, waits)
            stack.enter_context(mock.patch.object(owner, name, counting))
        view = trips.watched(memoryview, "memoryview", _arrays)
        for module in _package_modules():
            stack.enter_context(mock.patch.object(module, "memoryview", view, create=True))
        yield trips


def _always(*_: Any) -> int:
    return 1


def _arrays(*given: Any) -> int:
    """The number of MLX's arrays among arguments, and in the sequences among them."""
    found = 0
    for value in given:
        found += isinstance(value, mx.array)
        if isinstance(value, list | tuple):
            found += sum(isinstance(item, mx.array) for item in value)
    return found


def _numpy_functions() -> list[str]:
    """Names of numpy's own functions, types and ufuncs left out."""
    named = ((name, getattr(np, name)) for name in np.__all__)
    return [
        name for name, value in named if callable(value) and not isinstance(value, type | np.ufunc)
    ]


def _package_modules() -> list[Any]:
    """The modules of the package, which find a name of their own before Python's."""
    return [module for name, module in list(sys.modules.items()) if name.startswith(f"{PACKAGE}.")]


def _place(ignored: tuple[str, ...]) -> str | None:
    """The file and line of the innermost caller outside numpy; None for one that is ignored."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OWN):
        frame = frame.f_back
    file = Path(frame.f_code.co_filename).resolve()
    if str(file).startswith(ignored):
        return None
    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name
    return f"{name}:{frame.f_lineno}"
