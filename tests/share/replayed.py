"""All ranks in one process: each runs as far as what the others send is known, and again from the
beginning once it is. What ranks do has to be the same every time, and short."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import mlx.core as mx

from mlx_diffgemma.share.share import Share

Result = TypeVar("Result")


class UnknownError(Exception):
    """A collective that not all ranks have come to yet, and what this one gives to it."""

    def __init__(self, name: str, given: mx.array) -> None:
        super().__init__(name)
        self.name, self.given = name, given


@dataclass(frozen=True)
class ReplayedShare(Share):
    """A share whose collectives know what earlier runs of all ranks gave."""

    known: list[list[mx.array]] = field(default_factory=list)

    def sum(self, x: mx.array, name: str) -> mx.array:
        parts = self._parts(x, name, 2 * (self.size - 1) * x.nbytes // self.size)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def gather(self, x: mx.array, name: str) -> mx.array:
        return mx.stack(self._parts(x, name, (self.size - 1) * x.nbytes))

    def _parts(self, x: mx.array, name: str, sent: int) -> list[mx.array]:
        at = sum(self.calls.values())
        self.sent[name] += sent
        self.calls[name] += 1
        mx.eval(x)
        if at == len(self.known):
            raise UnknownError(name, x)
        return self.known[at]


class CountedShare(Share):
    """Rank 0 of several that are not there: they say what it says itself, and all is counted."""

    def sum(self, x: mx.array, name: str) -> mx.array:
        self._count(2 * (self.size - 1) * x.nbytes // self.size, name, x)
        return x

    def gather(self, x: mx.array, name: str) -> mx.array:
        self._count((self.size - 1) * x.nbytes, name, x)
        return mx.stack([x] * self.size)


def together(size: int, work: Callable[[Share], Result]) -> list[Result]:
    """What each of `size` ranks makes of its share."""
    known: list[list[mx.array]] = []
    while True:
        results: list[Result] = []
        waiting: list[UnknownError] = []
        for rank in range(size):
            try:
                results.append(work(ReplayedShare(rank, size, known=known)))
            except UnknownError as error:
                waiting.append(error)
        if not waiting:
            return results
        assert not results, "a rank made fewer calls than others"
        forms = {(each.name, tuple(each.given.shape), each.given.dtype) for each in waiting}
        assert len(forms) == 1, forms
        known.append([each.given for each in waiting])
