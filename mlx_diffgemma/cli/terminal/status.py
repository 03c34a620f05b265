"""The line of numbers below the canvas, as long as the window is wide."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...model.memory import sized


@dataclass(frozen=True)
class Numbers:
    """Where a generation is; canvas and step count from 0, rates and memory may be unknown.

    tokens_per_step and tokens_per_second count finished tokens, and those accepted in this canvas;
    accepted is of num_denoised. What a template pins counts nowhere.
    """

    canvas: int
    step: int
    num_steps: int
    accepted: int
    num_denoised: int
    mean_entropy: float
    step_seconds: float
    tokens_per_step: float | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None


def status_line(numbers: Numbers, width: int) -> str:
    """The numbers that fit into `width` cells, the most telling first; all of them from 80 on."""
    for fields, gap in ((_long(numbers), "  "), (_short(numbers), " ")):
        line = gap.join(fields)
        if len(line) <= width:
            return line
    line = ""
    for field in _short(numbers):
        longer = f"{line} {field}".strip()
        if len(longer) > width:
            break
        line = longer
    return line or f"{numbers.step + 1}/{numbers.num_steps}"[:width]


def _long(numbers: Numbers) -> Iterator[str]:
    yield f"canvas {numbers.canvas + 1}"
    yield f"step {numbers.step + 1:>2}/{numbers.num_steps}"
    yield f"accepted {numbers.accepted:>3} of {numbers.num_denoised}"
    yield f"entropy {numbers.mean_entropy:.4f} nats"
    if numbers.tokens_per_step is not None:
        yield f"{numbers.tokens_per_step:.1f} tokens/step"
    yield f"{1000 * numbers.step_seconds:.0f} ms/step"
    if numbers.tokens_per_second is not None:
        yield f"{numbers.tokens_per_second:.0f} tokens/s"
    if numbers.memory_bytes is not None:
        yield sized(numbers.memory_bytes)


def _short(numbers: Numbers) -> Iterator[str]:
    yield f"canvas {numbers.canvas + 1}"
    yield f"step {numbers.step + 1}/{numbers.num_steps}"
    yield f"acc {numbers.accepted}/{numbers.num_denoised}"
    yield f"{numbers.mean_entropy:.3f} nats"
    if numbers.tokens_per_step is not None:
        yield f"{numbers.tokens_per_step:.1f}/step"
    yield f"{1000 * numbers.step_seconds:.0f} ms"
    if numbers.tokens_per_second is not None:
        yield f"{numbers.tokens_per_second:.0f} tok/s"
    if numbers.memory_bytes is not None:
        yield sized(numbers.memory_bytes)
