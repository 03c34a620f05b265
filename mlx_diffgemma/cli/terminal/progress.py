"""A bar on standard error for what takes a while and counts its steps."""

import sys
import time
from typing import TYPE_CHECKING, Self

from .keys import in_foreground
from .streams import can_draw, window

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

REDRAW_SECONDS = 0.1
WIDE, NARROW = 40, 10  # columns of the bar itself; narrow where the label says much
ROOMY = 60  # columns of a window that a bar with rate and time left needs


class Bar:
    """A progress callback (done, total) that draws on a terminal, and vanishes when all is done.

    It appears with the first report that leaves something to do, so short work shows nothing. It
    draws while it is told something, no thread does: in the background it draws nothing. The label
    may change on the way. timed: with the time left.
    """

    def __init__(self, label: str, *, in_bytes: bool = False, timed: bool = False) -> None:
        self.label, self.in_bytes, self.timed = label, in_bytes, timed
        self.wanted = can_draw(sys.stderr)
        self.drawn: tuple[Progress, TaskID] | None = None
        self.drawn_at = 0.0

    def __call__(self, done: int, total: int) -> None:
        foreground = self.wanted and in_foreground(sys.stderr.fileno())
        if self.drawn is None and foreground and done < total:
            self.drawn = self._start(done, total)
        if self.drawn is not None:
            progress, task = self.drawn
            progress.console.quiet = not foreground
            progress.update(task, completed=done, description=self.label)
            if time.monotonic() - self.drawn_at > REDRAW_SECONDS:
                progress.refresh()
                self.drawn_at = time.monotonic()
        if done >= total or not foreground:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self.drawn is not None:
            self.drawn[0].stop()
            self.drawn = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, done: int, total: int) -> "tuple[Progress, TaskID]":
        from rich.console import Console
        from rich.progress import Progress

        class Visible(Console):
            """A console that leaves the cursor alone: a killed process cannot bring it back."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        console = Visible(stderr=True)
        progress = Progress(
            *self._columns(),
            console=console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,  # the answer must not end up on standard error
            redirect_stderr=True,  # a warning stands above the bar, not within it
        )
        progress.start()
        return progress, progress.add_task(self.label, total=total, completed=done)

    def _columns(self) -> "list[ProgressColumn]":
        """Label, bar and count; for bytes also the rate, and the time left where that is asked."""
        from rich import progress as rich

        if self.in_bytes and window()[0] < ROOMY:  # a row of its own for "MB" would stay behind
            text = rich.TextColumn("{task.description}")
            return [text, rich.DownloadColumn(), rich.TimeRemainingColumn(compact=True)]
        bar = rich.BarColumn(NARROW if self.timed else WIDE)
        columns: list[ProgressColumn] = [rich.TextColumn("{task.description}"), bar]
        left = rich.TimeRemainingColumn()
        if not self.in_bytes:
            return [*columns, rich.MofNCompleteColumn(), *([left] if self.timed else [])]
        return [*columns, rich.DownloadColumn(), rich.TransferSpeedColumn(), left]


class Bars:
    """A progress callback (what, done, total) with a Bar for each thing that is told of.

    counted: words in the names of what is counted one by one; all else is counted in bytes.
    """

    def __init__(self, *counted: str) -> None:
        self.counted, self.bars = counted, dict[str, Bar]()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.bars:
            in_bytes = not any(word in what for word in self.counted)
            self.bars[what] = Bar(what, in_bytes=in_bytes)
        self.bars[what](done, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self.bars.values():
            bar.close()
