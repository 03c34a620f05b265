"""The line of numbers below the text, as long as the window is wide."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...model.memory import sized

Field = tuple[str, str]
"""A number in a long and in a short form."""

# The end of a canvas: from mean entropy H on it takes about 1.4 ln(H / threshold) steps, as 250
# canvases of the published checkpoint did below a tenth of a nat (docs/decisions.md).
STEPS_BY_LOG, LAWFUL_NATS = 1.4, 0.1


def steps_to_go(mean_entropy: float, threshold: float) -> int | None:
    """Steps that a canvas will about take to its end; None before the end is near enough to say."""
    if not threshold < mean_entropy < LAWFUL_NATS:
        return None
    return max(1, round(STEPS_BY_LOG * math.log(mean_entropy / threshold)))


@dataclass(frozen=True)
class Numbers:
    """The state of a canvas; canvas and step count from 0, rates and memory may be unknown.

    tokens_per_step and tokens_per_second count finished tokens, and those accepted in this canvas;
    accepted is of num_denoised. What a template pins counts nowhere. asked: the mode asked for.
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
    steps_to_go: int | None = None
    asked: str = "diffusion"

    def fields(self) -> Iterator[Field]:
        """The numbers, the most telling first."""
        canvas, step, steps = self.canvas + 1, self.step + 1, self.num_steps
        accepted, denoised = self.accepted, self.num_denoised
        milliseconds = f"{1000 * self.step_seconds:.0f} ms"
        if self.asked != "diffusion":
            yield self.asked, self.asked
        yield f"canvas {canvas}", f"canvas {canvas}"
        yield f"step {step:>2}/{steps}", f"step {step}/{steps}"
        yield f"accepted {accepted:>3} of {denoised}", f"acc {accepted}/{denoised}"
        yield f"entropy {self.mean_entropy:.4f} nats", f"{self.mean_entropy:.3f} nats"
        if (rate := self.tokens_per_step) is not None:
            yield f"{rate:.1f} tokens/step", f"{rate:.1f}/step"
        yield f"{milliseconds}/step", milliseconds
        yield from _rate_and_memory(self.tokens_per_second, self.memory_bytes)
        if (left := self.steps_to_go) is not None:
            yield f"about {left} to go", f"~{left} to go"

    def least(self) -> str:
        """The part that is shown where nothing else fits."""
        return f"{self.step + 1}/{self.num_steps}"


@dataclass(frozen=True)
class Written:
    """The state of an answer in mode ar: tokens so far, and the last one's entropy in nats."""

    tokens: int
    entropy: float
    tokens_per_second: float | None = None
    memory_bytes: int | None = None
    asked: str = "ar"

    def fields(self) -> Iterator[Field]:
        """The numbers, the most telling first."""
        if self.asked != "ar":
            yield self.asked, self.asked
        yield "ar", "ar"
        yield f"{self.tokens:>4} tokens", f"{self.tokens} tok"
        if math.isfinite(self.entropy):
            yield f"entropy {self.entropy:.4f} nats", f"{self.entropy:.3f} nats"
        yield from _rate_and_memory(self.tokens_per_second, self.memory_bytes)

    def least(self) -> str:
        """The part that is shown where nothing else fits."""
        return f"{self.tokens}"


def status_line(numbers: Numbers | Written, width: int) -> str:
    """The numbers that fit into `width` cells, the most telling first; most of them from 80 on."""
    fields = list(numbers.fields())
    for line in ("  ".join(long for long, _ in fields), " ".join(short for _, short in fields)):
        if len(line) <= width:
            return line
    line = ""
    for _, short in fields:
        longer = f"{line} {short}".strip()
        if len(longer) > width:
            break
        line = longer
    return line or numbers.least()[:width]


def _rate_and_memory(rate: float | None, memory_bytes: int | None) -> Iterator[Field]:
    if rate is not None:
        yield f"{rate:.0f} tokens/s", f"{rate:.0f} tok/s"
    if memory_bytes is not None:
        yield sized(memory_bytes), sized(memory_bytes)
