"""The steps of a run as they finish: a bar on a terminal, lines elsewhere, or JSON."""

import sys
from typing import Self

from ...finetune.train import Progress
from ..terminal.output import write_json
from ..terminal.progress import Bar
from ..terminal.streams import can_draw, say
from .text import label, step_line

EVERY = 10  # steps from one line to the next where no bar can be drawn


class Shown:
    """Shows each step that it is called with; a context manager, which takes the bar away.

    as_json: one object a step on standard output, and no lines beside it.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.bar = Bar("training", timed=True)
        self.lines = not as_json and not can_draw(sys.stderr)

    def __call__(self, progress: Progress) -> None:
        if self.as_json:
            write_json(progress.to_json())
        self.bar.label = label(progress)
        self.bar(progress.step, progress.steps)
        if progress.warning:
            say(f"warning: {progress.warning}")
        at_end = progress.step in (1, progress.steps)
        if self.lines and (at_end or not progress.step % EVERY or progress.valid_loss is not None):
            say(step_line(progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
