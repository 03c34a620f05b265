"""The counts of a server, as Prometheus reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

TEXT = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds up to which a bucket of the histogram counts."""

PREFIX = "diffgemma"
Labels = Mapping[str, str]


@dataclass
class Metrics:
    """Requests by route and status, and their seconds; the event loop alone changes it."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    buckets: dict[str, list[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    decisions: int = 0

    def took(self, route: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        self.requests[route, status] += 1
        self.seconds[route] += seconds
        counts = self.buckets.setdefault(route, [0] * (len(BOUNDS) + 1))
        counts[bisect_left(BOUNDS, seconds)] += 1

    def lines(self) -> Iterator[str]:
        """The counts, in lines of Prometheus's text."""
        labels = sorted(self.requests)
        yield from family(
            *("requests_total", "counter", "Requests that are over."),
            [({"route": r, "status": str(s)}, self.requests[r, s]) for r, s in labels],
        )
        yield from family(
            *("decisions_total", "counter", "Requests for decisions that were answered."),
            [({}, self.decisions)],
        )
        yield from self._histogram()

    def _histogram(self) -> Iterator[str]:
        name = f"{PREFIX}_request_seconds"
        yield f"# HELP {name} Seconds from a request's head to the end of its reply."
        yield f"# TYPE {name} histogram"
        for route, counts in sorted(self.buckets.items()):
            below = 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
                below += count
                yield sample(f"{name}_bucket", {"route": route, "le": bound}, below)
            yield sample(f"{name}_sum", {"route": route}, round(self.seconds[route], 6))
            yield sample(f"{name}_count", {"route": route}, below)


def family(
    name: str, kind: str, told: str, samples: Iterable[tuple[Labels, float]]
) -> Iterator[str]:
    """The lines of one metric; name: without the prefix."""
    name = f"{PREFIX}_{name}"
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
    yield from (sample(name, labels, value) for labels, value in samples)


def sample(name: str, labels: Labels, value: float) -> str:
    """One line of a metric."""
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
