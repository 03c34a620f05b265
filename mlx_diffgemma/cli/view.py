"""The denoising seen line by line, a line a step: a pure `render`, and the loop that prints it."""

import sys
from typing import TYPE_CHECKING

from rich.cells import cell_len

from .output import is_terminal

if TYPE_CHECKING:
    from ..diffusion.denoise import Frame
    from ..reply import Reply

DEFAULT_WIDTH = 80


def render(frame: "Frame", num_steps: int, width: int) -> str:
    """One step in one line of at most `width` cells; numbers count from 1."""
    accepted, entropy = int(frame.accepted.sum()), frame.mean_entropy
    numbers = (
        f"canvas {frame.canvas + 1} step {frame.step + 1:>2}/{num_steps}  "
        f"accepted {accepted:>3} of {len(frame.accepted)}  entropy {entropy:.4f} nats"
    )
    return cut(f"{numbers}  | {printable(frame.text)}", width)


def summary(reply: "Reply") -> str:
    """The numbers of a finished answer, the seed among them: it gives the same text again."""
    rate = reply.tokens_per_second
    speed = f", {rate:.1f} tokens/s" if rate else ""
    return (
        f"{reply.generated_tokens} tokens in {reply.seconds.total:.1f} s{speed}, "
        f"{sum(reply.steps)} steps, seed {reply.seed}"
    )


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
    """Prints steps on standard error; quiet when `shown` is false."""

    def __init__(self, num_steps: int, shown: bool) -> None:
        self.num_steps = num_steps
        self.shown = shown and sys.stderr is not None

    def step(self, frame: "Frame") -> None:
        """One line for a step; a committed canvas shows in the answer."""
        if self.shown and not frame.committed:
            self._print(render(frame, self.num_steps, _width()))

    def end(self, reply: "Reply") -> None:
        """The closing line."""
        if self.shown:
            self._print(cut(summary(reply), _width()))

    def _print(self, line: str) -> None:
        try:
            print(line, file=sys.stderr, flush=True)
        except BrokenPipeError:  # nobody watches any more; the answer still counts
            self.shown = False


def _width() -> int:
    """Columns of the terminal behind standard error; elsewhere $COLUMNS, else 80."""
    if not is_terminal(sys.stderr):
        import os

        columns = os.environ.get("COLUMNS", "")
        return int(columns) if columns.isdecimal() and int(columns) else DEFAULT_WIDTH
    from rich.console import Console

    return Console(stderr=True).width
