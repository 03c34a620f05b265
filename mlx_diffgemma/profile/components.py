"""Components of a step's time, measured by fences around the parts of a loaded model.

MLX computes lazily: the time of a part shows only to a caller who waits for the part's inputs
before the call, and for its result behind it. A fence is such a call. For the time of a measurement
the parts of a model are wrapped from outside; the model's own code stays as it is.

Parts lie inside each other, and a part is charged for the time that no inner part takes: a decoder
pass for the norms and residual sums between attention, experts and MLP, a denoising step for the
sampler. Time outside the denoising step is the host's.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, is_dataclass
from statistics import mean
from typing import Any, TypeVar

import mlx.core as mx

from ..diffusion import pipeline as loop
from ..diffusion import soft
from ..model.experts import Routing
from ..model.text import Model
from ..model.work import (
    ATTENTION,
    DENSE_MLP,
    EXPERTS,
    HEAD,
    NORMS,
    ROUTER,
    SELF_CONDITIONING,
)
from ..share.share import Share
from .linked import Collective, is_timed, timed
from .routing import rows_per_expert
from .samples import MessageTime, Span, StepParts

T = TypeVar("T")

MOST_OVERHEAD = 0.1  # of a step: with more, shares would describe the fences and not the step
SAMPLER, HOST, ENCODER, LINK = "sampler", "host", "encoder", "link"
COMPONENTS = (
    ATTENTION,
    EXPERTS,
    DENSE_MLP,
    ROUTER,
    NORMS,
    HEAD,
    SAMPLER,
    SELF_CONDITIONING,
    HOST,
)
"""All components of a step's time on one Mac; where several share it, LINK is one more."""


class Fences:
    """A clock that divides the time between `begin` and `end` among the wrapped parts."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.stack: list[str] = []

    def begin(self) -> None:
        """Start a step: time is the host's until a part is entered."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.fences: Counter[str] = Counter()
        self.spans: list[Span] = []
        self.routings: list[Routing] = []
        self.messages: list[MessageTime] = []
        self.stack = [HOST]
        self.last = self.clock()

    def end(self) -> None:
        """End the step: no time is counted until the next one begins."""
        self._count()
        self.stack = []

    def take(self) -> StepParts:
        """The times between `begin` and `end`, without the encoder, which is no part of a step.

        The rows of the experts are counted here, which takes no time of any part.
        """
        names = [name for name in (*COMPONENTS, LINK) if name in self.seconds]
        return StepParts(
            {name: self.seconds[name] for name in names},
            {name: self.fences[name] for name in names},
            tuple(span for span in self.spans if span.name != ENCODER),
            rows_per_expert(self.routings),
            tuple(self.messages),
        )

    def part(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with fences: what is pending before the call counts for the part around it."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.stack or self.stack[-1] == ENCODER:
                return function(*args, **kwargs)
            self._wait([*args, *kwargs.values()])
            began = self.last
            self.stack.append(name)
            try:
                result = function(*args, **kwargs)
                self._wait(result)
            finally:
                self.stack.pop()
            self.spans.append(Span(name, began, self.last - began))
            if name == ROUTER:
                self.routings.append(result)
            return result

        return run

    def _message(self, call: Collective) -> Collective:
        """A collective with fences; one that belongs to no step is left as it is."""
        fenced = self.part(LINK, timed(call, lambda times: self.messages.append(times), self.clock))

        def run(share: Share, x: mx.array, name: str) -> mx.array:
            inside = self.stack and self.stack[-1] != ENCODER and is_timed(share, name)
            result: mx.array = (fenced if inside else call)(share, x, name)
            return result

        return run

    def _wait(self, value: Any) -> None:
        """Evaluate the arrays in `value` and count the time for the part that runs."""
        if arrays := list(_arrays(value)):
            mx.eval(arrays)
            self.fences[self.stack[-1]] += 1
        self._count()

    def _count(self) -> None:
        now = self.clock()
        self.seconds[self.stack[-1]] += now - self.last
        self.last = now

    @contextmanager
    def around(self, model: Model) -> Iterator[None]:
        """Wrap the parts of `model` and the loop's step, and take the wrappers off again.

        On a GPU the rest of a layer behind attention is compiled whole; with fences inside, the
        uncompiled function runs. No step is built ahead.
        """
        with ExitStack() as undo:
            for layer in model.layers:
                self._swap(undo, layer, "compiled_after_attention", layer.after_attention)
            self._swap(undo, loop, "runs_ahead", lambda: False)
            for owner, attribute, name in _wrapped(model):
                part = getattr(owner, attribute)
                self._swap(undo, owner, attribute, _Fenced(part, self.part(name, part)))
            for name in ("sum", "gather"):
                self._swap(undo, Share, name, self._message(getattr(Share, name)))
            yield

    def _swap(self, undo: ExitStack, owner: Any, attribute: str, value: Any) -> None:
        if attribute in vars(owner):
            undo.callback(setattr, owner, attribute, vars(owner)[attribute])
        else:  # a method: the class has it
            undo.callback(delattr, owner, attribute)
        setattr(owner, attribute, value)


@dataclass
class _Fenced:
    """A part whose calls have fences, and whose attributes are the part's own."""

    part: Any
    call: Callable[..., Any] = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


def _wrapped(model: Model) -> Iterator[tuple[Any, str, str]]:
    """Owner, attribute and component of each part to wrap."""
    for name in ("submit", "read"):
        yield loop, name, SAMPLER
    yield model, "encode", ENCODER
    yield model, "decode", NORMS
    yield model, "self_conditioning", SELF_CONDITIONING
    for name in ("head", "own_head"):
        yield model.embedding, name, HEAD
    yield soft, "gathered", SELF_CONDITIONING
    for name in ("soft", "mix", "own_soft", "summed"):
        yield model.embedding, name, SELF_CONDITIONING
    if model.embedding.own.divided:
        yield model.embedding, "own_head", HEAD
        yield model.embedding, "own_soft", SELF_CONDITIONING
    for layer in model.layers:
        yield layer, "attention", ATTENTION
        yield layer.after_attention, "mlp", DENSE_MLP
        yield layer.after_attention, "router", ROUTER
        yield layer.after_attention, "experts", EXPERTS


def _arrays(value: Any) -> Iterator[mx.array]:
    """The arrays among a call's arguments or results, or among the fields of their dataclasses."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, mx.array):
            yield item
        elif is_dataclass(item):
            yield from (a for a in vars(item).values() if isinstance(a, mx.array))


# --- from steps to one figure a component


@dataclass(frozen=True)
class Components:
    """Milliseconds of a step by component; their sum is plain_ms, a step without fences.

    overhead_ms: the fenced step less the plain one, taken off the components already.
    """

    ms: dict[str, float]
    plain_ms: float
    overhead_ms: float
    fences: float

    @property
    def overhead_share(self) -> float:
        """The overhead as a share of a plain step; below 0 where noise is larger."""
        return self.overhead_ms / self.plain_ms

    @property
    def shares(self) -> dict[str, float | None]:
        """Each component as a share of the step; None where waiting distorted the step too much."""
        total = sum(self.ms.values())
        trusted = self.overhead_share <= MOST_OVERHEAD and total > 0
        return {name: ms / total if trusted else None for name, ms in self.ms.items()}


def summarise(plain_seconds: Sequence[float], fenced: Sequence[StepParts]) -> Components:
    """Components of the typical step: means over the quarter of the steps around the median one.

    fenced: repetitions of the steps of plain_seconds. Where the typical fenced step is longer, the
    difference is overhead, borne by each component in proportion to its fences; where noise makes
    that step shorter, all components grow in proportion.
    """
    typical = _middle(sorted(fenced, key=lambda step: step.total))
    names = [*COMPONENTS, *[LINK] * any(LINK in step.seconds for step in typical)]
    ms = {name: 1e3 * mean(s.seconds.get(name, 0.0) for s in typical) for name in names}
    fences = {name: mean(s.fences.get(name, 0) for s in typical) for name in names}
    plain_ms, fenced_ms = 1e3 * mean(_middle(sorted(plain_seconds))), sum(ms.values())
    if fenced_ms > plain_ms:
        ms = _without_overhead(ms, fences, fenced_ms - plain_ms)
    else:
        ms = {name: value * plain_ms / fenced_ms for name, value in ms.items()}
    return Components(ms, plain_ms, fenced_ms - plain_ms, sum(fences.values()))


def _middle(ranked: Sequence[T]) -> Sequence[T]:
    """The quarter of `ranked` around the median, at least one item."""
    cut = min(len(ranked) * 3 // 8, (len(ranked) - 1) // 2)
    return ranked[cut : len(ranked) - cut]


def _without_overhead(
    ms: dict[str, float], fences: Mapping[str, float], overhead_ms: float
) -> dict[str, float]:
    """`ms` less the overhead, shared out by fences, but at most half of a component.

    The rest of the overhead shortens all components in proportion: more than half of one is noise,
    not waiting.
    """
    each = overhead_ms / max(1.0, sum(fences.values()))
    left = {name: max(value / 2, value - each * fences[name]) for name, value in ms.items()}
    scale = (sum(ms.values()) - overhead_ms) / sum(left.values())
    return {name: value * scale for name, value in left.items()}
