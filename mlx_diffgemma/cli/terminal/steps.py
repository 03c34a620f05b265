"""Views that draw nothing: an empty one, a line a step or token, and one line for all of them."""

import math
import sys
import time
from typing import Self

from rich.cells import cell_len

from ...generation.frame import Frame
from .passing import PassingLine
from .progress import REDRAW_SECONDS
from .scene import Scene
from .screen import screen_size
from .status import status_line


def render(frame: Frame, num_steps: int, width: int) -> str:
    """One step, or token of mode ar, in one line of at most `width` cells; numbers count from 1."""
    if frame.mode == "ar":
        return _token_line(frame, width)
    accepted, entropy = frame.num_accepted, frame.mean_entropy
    numbers = (
        f"canvas {frame.canvas + 1} step {frame.step + 1:>2}/{num_steps}  "
        f"accepted {accepted:>3} of {frame.num_denoised}  entropy {entropy:.4f} nats"
        f"{_strain(frame)}"
    )
    return cut(f"{numbers}  | {printable(frame.text)}", width)


def _token_line(frame: Frame, width: int) -> str:
    """A token's numbers, and the end of the segment that it stands in."""
    numbers = (
        f"segment {frame.canvas + 1} token {frame.step + 1:>3}  "
        f"entropy {frame.entropies[-1]:.4f} nats  probability {frame.top_probability:.3f}"
        f"{_strain(frame)}  | "
    )
    text = printable(frame.text)[-max(1, width) :]
    while text and cell_len(numbers) + cell_len(text) > width:
        text = text[1:]
    return cut(f"{numbers}{text}", width)


def _strain(frame: Frame) -> str:
    """The strain of an answer with a form, behind the other numbers."""
    return "" if frame.strain is None else f"  strain {frame.strain:.1f} nats"


def printable(text: str) -> str:
    """Text on one line that cannot move the cursor or change its colour."""
    return "".join(c if c.isprintable() else " " for c in text)


def cut(text: str, width: int) -> str:
    """The beginning of `text` that fills at most `width` cells; wide characters fill two."""
    if len(text) * 2 > width and cell_len(text) > width:
        end = min(len(text), width)
        while cell_len(text[:end]) > width:
            end -= 1
        return text[:end]
    return text


class View:
    """The steps of a generation as a user sees them; this one shows nothing.

    A context manager: behind its `with`, the terminal is as it was.
    """

    def step(self, frame: Frame) -> None:
        """Take every frame, in order."""

    def close(self) -> None:
        """Give the terminal back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StepLines(View):
    """Steps printed on standard error."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.shown = sys.stderr is not None

    def step(self, frame: Frame) -> None:
        """Print one line for a step or a token; a committed segment shows in the answer."""
        if not self.shown or frame.committed:
            return
        line = render(frame, self.num_steps, screen_size().columns)
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:  # nobody watches any more; the answer still counts
            self.shown = False


class PassingNumbers(View):
    """The numbers of the live view in a passing line, while standard output is no terminal.

    till_text: it goes for good before the first text does, since whoever reads a pipe may write on
    the same terminal.
    """

    def __init__(self, scene: Scene, *, till_text: bool) -> None:
        self.scene, self.till_text = scene, till_text
        self.line = PassingLine()
        self.shown_at = 0.0

    def step(self, frame: Frame) -> None:
        """Show the numbers after a step or token, not too often."""
        self.scene.take(frame)
        if self.till_text and (frame.committed or frame.mode == "ar"):
            self.line.erase()
            self.shown_at = math.inf
        numbers, now = self.scene.numbers(), time.monotonic()
        if numbers is not None and now - self.shown_at > REDRAW_SECONDS:
            self.line.show(status_line(numbers, screen_size().columns - 1))
            self.shown_at = now

    def close(self) -> None:
        """Take the line away."""
        self.line.erase()
