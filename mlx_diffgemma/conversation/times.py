"""The times that mode auto decides by, from the first of these that has them: the question's own,
what this session has seen, what was tuned, arithmetic for this chip, or a moment of both modes.
Macs that share a model decide by rank 0's.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import mlx.core as mx

from ..autoregressive.router import Times
from ..autoregressive.sampling import sample
from ..checkpoint.generation import TokenDefaults
from ..diffusion.denoise import denoise
from ..generation.noise import CounterNoise
from ..generation.settings import Settings
from ..machine.chips import Chip
from ..machine.choices import Choices, ModeTimes
from ..model.bits import stored_bits
from ..model.roofline import estimated_times
from ..model.text import Model
from ..share.guard import from_rank_0
from .segments import Begun

GIVEN, SEEN, TUNED = "given", "seen in this session", "tuned"
MEASURED = "measured at the start"
KEPT = 32  # segments of each mode whose times count
FEWEST = {"diffusion": 2, "ar": 8}  # steps or tokens that tell a time
WAITED = 0.5  # share of a segment's time that it was waited for, unless its reader was slower
STEPS, TOKENS = 2, 6  # that are timed at the start, behind WARM others
WARM = 1
CONTEXT = 1024  # positions in front of the step and the token that are estimated


@dataclass
class Clock:
    """The times of both modes in one session, refined between its answers.

    Milliseconds a step and a token, an entry a segment; known: those before any was seen.
    """

    step_ms: list[float] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    known: Times | None = None
    warm: set[str] = field(default_factory=set)  # modes whose first segment, a slow one, has been

    def saw(self, segments: Iterable[Begun]) -> None:
        """Count the segments of an answer that has come to its end."""
        for segment in segments:
            if segment.steps < FEWEST[segment.mode]:
                continue
            if segment.mode not in self.warm:
                self.warm.add(segment.mode)
            elif segment.mode == "diffusion":
                self.step_ms = [*self.step_ms, 1e3 * segment.seconds / segment.steps][-KEPT:]
            elif segment.seconds >= WAITED * segment.shown:
                each = 1e3 * segment.shown / (segment.steps - 1)
                self.token_ms = [*self.token_ms, each][-KEPT:]

    def times(
        self,
        given: tuple[float, ...] | None,
        tuned: ModeTimes | None,
        elsewhere: Callable[[], Times],
    ) -> Times:
        """The times of the next answer; elsewhere: those where no other place has them."""
        if given is not None:
            step, token, *commit = given
            return Times(step, token, GIVEN, commit[0] if commit else None)
        if self.step_ms and self.token_ms:
            return Times(median(self.step_ms), median(self.token_ms), SEEN)
        known = self.known = self.known or _tuned(tuned) or elsewhere()
        if self.step_ms:
            source = f"steps {SEEN}, tokens {known.source}"
            return Times(median(self.step_ms), known.token_ms, source)
        if self.token_ms:
            source = f"steps {known.source}, tokens {SEEN}"
            return Times(known.step_ms, median(self.token_ms), source)
        return known


def shared_times(model: Model, clock: Clock, given: tuple[float, ...] | None) -> Times:
    """The times of the next answer of Macs that share a model, which are rank 0's.

    What was tuned, and arithmetic, is of one Mac: where no question has brought any, they measure a
    moment together, once in a session.
    """
    if given is None and clock.known is None:
        clock.known = measure(model)
    own = clock.times(given, None, partial(measure, model))
    said = from_rank_0(model.part.share, "\n".join(_words(own)).encode()).decode()
    step, token, commit, source = said.split("\n", 3)
    measured = float.fromhex(commit) if commit else None
    return Times(float.fromhex(step), float.fromhex(token), source, measured)


def _words(times: Times) -> Iterator[str]:
    """What is told of times: numbers to the last bit, infinite ones among them."""
    for number in (times.step_ms, times.token_ms, times.measured_commit_ms):
        yield "" if number is None else float(number).hex()
    yield times.source


def _tuned(times: ModeTimes | None) -> Times | None:
    return None if times is None else Times(times.step_ms, times.token_ms, TUNED, times.commit_ms)


def estimate(model: Model, folder: Path, choices: Choices | None, chip: Chip) -> Times:
    """The times that a chip should take with a checkpoint folder, by arithmetic."""
    item_bytes, unpacked = model.dtype.size, bool(choices and choices.unpacks)
    bits = stored_bits(folder, model.config, item_bytes, unpacked=unpacked)
    times = estimated_times(model.config, bits, chip, CONTEXT, item_bytes=item_bytes)
    return Times(times.step_ms, times.token_ms, f"arithmetic for {chip.name}")


def measure(model: Model) -> Times:
    """The times of the quickest of a few steps and tokens behind one token, after a warm-up."""
    return Times(_step_ms(model), _token_ms(model), MEASURED)


def _step_ms(model: Model) -> float:
    """A denoising step; the canvas never counts as settled."""
    count = WARM + STEPS
    unsettled = Settings(max_tokens=1, max_denoising_steps=count, stability_threshold=count)
    frames = denoise(model, [0], unsettled, CounterNoise(0))
    seconds = [frame.seconds for frame in frames if not frame.committed]
    return 1e3 * min(seconds[WARM:])


def _token_ms(model: Model) -> float:
    """A token, drawn from the likeliest 64."""
    prefix, token = model.encode([0]), mx.array([0], mx.int32)
    uniforms, seconds = CounterNoise(0).tokens(0, WARM + TOKENS), list[float]()
    for number in range(WARM + TOKENS):
        began = time.perf_counter()
        drawn = sample(model.step(token, prefix), uniforms[number : number + 1], TokenDefaults())
        drawn.read()
        token = drawn.tokens
        seconds.append(time.perf_counter() - began)
    return 1e3 * min(seconds[WARM:])
