"""Where a step's time goes, part by part: fences around the parts of a loaded model.

MLX computes lazily, so a part's time shows only where somebody waits for its inputs before it and
for its result behind it. For the time of a measurement the parts of a model are wrapped from
outside; the model itself knows nothing of it. What runs inside one part and in none of the parts
inside it is that part's own: in a decoder pass the norms and residual sums between attention,
experts and MLP, in a denoising step the sampler, around it the host.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, is_dataclass
from statistics import mean
from typing import Any, TypeVar

import mlx.core as mx

from ..diffusion import canvas as loop
from ..model.text import Model
from .measurement import Span, StepParts
from .work import ATTENTION, DENSE_MLP, EXPERTS, HEAD, ROUTER, SELF_CONDITIONING

T = TypeVar("T")

MOST_OVERHEAD = 0.1  # of a step: beyond, shares would say more about the fences than about the step
SAMPLER, NORMS, HOST, ENCODER = "sampler", "norms", "host", "encoder"
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
"""All that a step's time is divided into."""


class Fences:
    """Divides the time between `begin` and `end` among the wrapped parts, by their own time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.stack: list[str] = []
        self.last = 0.0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.fences: Counter[str] = Counter()
        self.spans: list[Span] = []

    def begin(self) -> None:
        """From here on time is the host's, until a part is entered."""
        self.seconds.clear()
        self.fences.clear()
        self.spans.clear()
        self.stack = [HOST]
        self.last = self.clock()

    def end(self) -> None:
        """Nothing is counted from here on."""
        self._count()
        self.stack = []

    def take(self) -> StepParts:
        """What was counted between `begin` and `end`; the encoder is no part of a step."""
        names = [name for name in COMPONENTS if name in self.seconds]
        return StepParts(
            {name: self.seconds[name] for name in names},
            {name: self.fences[name] for name in names},
            tuple(span for span in self.spans if span.name != ENCODER),
        )

    def part(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, waited for: what is pending before it counts for the part around it."""

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
            return result

        return run

    def _wait(self, value: Any) -> None:
        """Evaluates the arrays in `value` and counts the time for the part that runs."""
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
        """Wraps the parts of `model` and the loop's step; takes the wrappers off again.

        What follows attention is compiled whole on a GPU; to wait inside it, it runs uncompiled.
        """
        with ExitStack() as undo:
            for layer in model.layers:
                self._swap(undo, layer, "after_attention_of_canvas", layer.after_attention)
            for owner, attribute, name in _places(model):
                part = getattr(owner, attribute)
                self._swap(undo, owner, attribute, _Fenced(part, self.part(name, part)))
            yield

    def _swap(self, undo: ExitStack, owner: Any, attribute: str, value: Any) -> None:
        if attribute in vars(owner):
            undo.callback(setattr, owner, attribute, vars(owner)[attribute])
        else:  # a method: the class has it
            undo.callback(delattr, owner, attribute)
        setattr(owner, attribute, value)


@dataclass
class _Fenced:
    """A part that is waited for when it is called, and otherwise the part itself."""

    part: Any
    call: Callable[..., Any] = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


def _places(model: Model) -> Iterator[tuple[Any, str, str]]:
    """Owner, attribute and component of everything that is wrapped."""
    yield loop, "denoising_step", SAMPLER
    yield model, "encode", ENCODER
    yield model, "decode", NORMS
    yield model, "self_conditioning", SELF_CONDITIONING
    yield model.embedding, "head", HEAD
    for name in ("soft", "mix", "gathered"):
        yield model.embedding, name, SELF_CONDITIONING
    for layer in model.layers:
        yield layer, "attention", ATTENTION
        yield layer.after_attention, "mlp", DENSE_MLP
        yield layer.after_attention, "router", ROUTER
        yield layer.after_attention, "experts", EXPERTS


def _arrays(value: Any) -> Iterator[mx.array]:
    """The arrays of a call's arguments or of its result: themselves, or fields of a dataclass."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, mx.array):
            yield item
        elif is_dataclass(item):
            yield from (a for a in vars(item).values() if isinstance(a, mx.array))


# --- from steps to one figure a component


@dataclass(frozen=True)
class Components:
    """Milliseconds of a step by component, summing to plain_ms, a step without fences.

    overhead_ms: by how much the fenced step was longer, which is taken off the components.
    """

    ms: dict[str, float]
    plain_ms: float
    overhead_ms: float
    fences: float

    @property
    def overhead_share(self) -> float:
        """Of a plain step; below 0 where noise is larger than the overhead."""
        return self.overhead_ms / self.plain_ms

    @property
    def shares(self) -> dict[str, float | None]:
        """Of the sum; None all of them when waiting distorted the step too much."""
        total = sum(self.ms.values())
        trusted = self.overhead_share <= MOST_OVERHEAD and total > 0
        return {name: ms / total if trusted else None for name, ms in self.ms.items()}


def summarise(plain_seconds: Sequence[float], fenced: Sequence[StepParts]) -> Components:
    """Components of the typical step: means over the quarter of the steps around the median one.

    fenced repeats the steps of plain_seconds. By how much its typical step is longer is the
    overhead; a component bears it by how often it was waited for. Where noise makes it shorter,
    all components grow alike.
    """
    typical = _middle(sorted(fenced, key=lambda step: step.total))
    ms = {name: 1e3 * mean(s.seconds.get(name, 0.0) for s in typical) for name in COMPONENTS}
    fences = {name: mean(s.fences.get(name, 0) for s in typical) for name in COMPONENTS}
    plain_ms, fenced_ms = 1e3 * mean(_middle(sorted(plain_seconds))), sum(ms.values())
    if fenced_ms > plain_ms:
        ms = _less(ms, fences, fenced_ms - plain_ms)
    else:
        ms = {name: value * plain_ms / fenced_ms for name, value in ms.items()}
    return Components(ms, plain_ms, fenced_ms - plain_ms, sum(fences.values()))


def _middle(ranked: Sequence[T]) -> Sequence[T]:
    """The quarter around the median, at least one."""
    cut = min(len(ranked) * 3 // 8, (len(ranked) - 1) // 2)
    return ranked[cut : len(ranked) - cut]


def _less(
    ms: dict[str, float], fences: Mapping[str, float], overhead_ms: float
) -> dict[str, float]:
    """`ms` less the overhead, shared out by fences, but at most half of a component.

    What is then left over shortens all alike: noise, not waiting, is what wipes a component out.
    """
    each = overhead_ms / max(1.0, sum(fences.values()))
    left = {name: max(value / 2, value - each * fences[name]) for name, value in ms.items()}
    scale = (sum(ms.values()) - overhead_ms) / sum(left.values())
    return {name: value * scale for name, value in left.items()}
