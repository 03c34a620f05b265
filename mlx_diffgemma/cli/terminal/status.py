"""The line of numbers below the text, as long as the window is wide."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...model.memory import sized

WIDE, NARROW = "  ", " "  # between two numbers

# The end of a canvas: from mean entropy H on it takes about 1.4 ln(H / threshold) steps, as 250
# canvases of the published checkpoint did below a tenth of a nat (docs/decisions.md).
STEPS_BY_LOG, LAWFUL_NATS = 1.4, 0.1


def steps_to_go(mean_entropy: float, threshold: float) -> int | None:
    """Steps that a canvas will about take to its end; None before the end is near enough to say."""
    if not threshold < mean_entropy < LAWFUL_NATS:
        return None
    return max(1, round(STEPS_BY_LOG * math.log(mean_entropy / threshold)))


@dataclass(frozen=True)
class Left:
    """Seconds to the end of a canvas, or of an answer in mode ar, at the present pace.

    at_most: for as many steps or tokens as it may still take; else for as many as are likely.
    """

    seconds: float
    at_most: bool = True

    def __str__(self) -> str:
        if self.seconds < 1:
            return "under 1 s left"
        return f"{'at most' if self.at_most else 'about'} {math.ceil(self.seconds):>2} s left"


@dataclass(frozen=True)
class Numbers:
    """The state of a canvas; canvas and step count from 0, rates and memory may be unknown.

    tokens_per_step and tokens_per_second count finished tokens, and those accepted in this canvas;
    accepted is of num_denoised. What a template pins counts nowhere. asked: the mode asked for.
    strain: of an answer with a form, in nats.
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
    left: Left | None = None
    asked: str = "diffusion"
    strain: float | None = None

    def first(self) -> Iterator[str]:
        """The numbers that say how far it is, in words that need no explanation."""
        if self.asked != "diffusion":
            yield self.asked
        yield f"canvas {self.canvas + 1}"
        yield f"step {self.step + 1:>{len(str(self.num_steps))}} of {self.num_steps}"
        yield from _left_and_rate(self.left, self.tokens_per_second)

    def more(self) -> Iterator[str]:
        """Those behind them, the most telling first."""
        yield from _strain(self.strain)
        yield f"accepted {self.accepted:>3} of {self.num_denoised}"
        yield f"entropy {self.mean_entropy:.4f} nats"
        if (rate := self.tokens_per_step) is not None:
            yield f"{rate:.1f} tokens/step"
        yield f"{1000 * self.step_seconds:.0f} ms/step"
        yield from _memory(self.memory_bytes)

    def least(self) -> Iterator[str]:
        """The part that is shown where nothing else fits, and a shorter form of it."""
        yield f"step {self.step + 1} of {self.num_steps}"
        yield f"{self.step + 1}/{self.num_steps}"


@dataclass(frozen=True)
class Written:
    """The state of an answer in mode ar: tokens so far, and the last one's entropy in nats.

    most: tokens that it may have; None where nobody has said. strain: as of Numbers.
    """

    tokens: int
    entropy: float
    tokens_per_second: float | None = None
    memory_bytes: int | None = None
    left: Left | None = None
    most: int | None = None
    asked: str = "ar"
    strain: float | None = None

    def first(self) -> Iterator[str]:
        """The numbers that say how far it is, in words that need no explanation."""
        if self.asked != "ar":
            yield self.asked
        yield "ar"
        yield f"{self.tokens:>4} {f'of at most {self.most} ' if self.most else ''}tokens"
        yield from _left_and_rate(self.left, self.tokens_per_second)

    def more(self) -> Iterator[str]:
        """Those behind them, the most telling first."""
        yield from _strain(self.strain)
        if math.isfinite(self.entropy):
            yield f"entropy {self.entropy:.4f} nats"
        yield from _memory(self.memory_bytes)

    def least(self) -> Iterator[str]:
        """The part that is shown where nothing else fits, and a shorter form of it."""
        yield f"{self.tokens} tokens"
        yield f"{self.tokens}"


def status_line(numbers: Numbers | Written, width: int, hint: str = "") -> str:
    """The numbers that fit into `width` cells, each in full; `hint` behind the first of them.

    Where the first do not all fit, there is no hint, and they stand closer; where two do not, the
    least is shown.
    """
    first, more = list(numbers.first()), list(numbers.more())
    room = width - len(WIDE) - len(hint)
    if hint and len(WIDE.join(first)) <= room:
        return WIDE.join([*_fitting([*first, *more], room, WIDE), hint])
    wide, narrow = _fitting([*first, *more], width, WIDE), _fitting(first, width, NARROW)
    if max(len(wide), len(narrow)) > 1:
        return WIDE.join(wide) if len(wide) >= len(narrow) else NARROW.join(narrow)
    *_, shortest = numbers.least()
    return next((line for line in numbers.least() if len(line) <= width), shortest[:width])


def _fitting(fields: list[str], width: int, gap: str) -> list[str]:
    """The first fields that fit beside one another."""
    count = len(fields)
    while count and len(gap.join(fields[:count])) > width:
        count -= 1
    return fields[:count]


def _left_and_rate(left: Left | None, rate: float | None) -> Iterator[str]:
    if left is not None:
        yield str(left)
    if rate is not None:
        yield f"{rate:.0f} tokens/s"


def _strain(strain: float | None) -> Iterator[str]:
    if strain is not None:
        yield f"strain {strain:.1f}"


def _memory(memory_bytes: int | None) -> Iterator[str]:
    if memory_bytes is not None:
        yield sized(memory_bytes)
