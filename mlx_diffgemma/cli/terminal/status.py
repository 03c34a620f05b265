"""The line of numbers below the canvas, as long as the window is wide."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...model.memory import sized


@dataclass(frozen=True)
class Numbers:
    """The state of a generation; canvas and step count from 0, rates and memory may be unknown.

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
    fields = list(_fields(numbers))
    for line in ("  ".join(long for long, _ in fields), " ".join(short for _, short in fields)):
        if len(line) <= width:
            return line
    line = ""
    for _, short in fields:
        longer = f"{line} {short}".strip()
        if len(longer) > width:
            break
        line = longer
    return line or f"{numbers.step + 1}/{numbers.num_steps}"[:width]


def _fields(numbers: Numbers) -> Iterator[tuple[str, str]]:
    """Each number in a long and in a short form."""
    canvas, step, steps = numbers.canvas + 1, numbers.step + 1, numbers.num_steps
    accepted, denoised = numbers.accepted, numbers.num_denoised
    milliseconds = f"{1000 * numbers.step_seconds:.0f} ms"
    yield f"canvas {canvas}", f"canvas {canvas}"
    yield f"step {step:>2}/{steps}", f"step {step}/{steps}"
    yield f"accepted {accepted:>3} of {denoised}", f"acc {accepted}/{denoised}"
    yield f"entropy {numbers.mean_entropy:.4f} nats", f"{numbers.mean_entropy:.3f} nats"
    if (rate := numbers.tokens_per_step) is not None:
        yield f"{rate:.1f} tokens/step", f"{rate:.1f}/step"
    yield f"{milliseconds}/step", milliseconds
    if (rate := numbers.tokens_per_second) is not None:
        yield f"{rate:.0f} tokens/s", f"{rate:.0f} tok/s"
    if numbers.memory_bytes is not None:
        yield sized(numbers.memory_bytes), sized(numbers.memory_bytes)
