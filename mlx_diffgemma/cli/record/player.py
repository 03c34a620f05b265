"""A recording played in the live view: by itself, and as keys say."""

import sys
import time
from collections.abc import Callable, Sequence

from rich.segment import Segment

from ..options import ViewOptions
from ..terminal.legend import legend
from ..terminal.live import REDRAWS_PER_SECOND, Live
from ..terminal.picture import FAINT
from ..terminal.screen import open_screen
from ..terminal.streams import is_terminal
from ..terminal.typed import Typed
from ..terminal.wrap import Line
from .pace import Pace
from .recording import Recording

HOLD_SECONDS = 1.0  # the last step, whatever the pace, before the text takes its place
GLANCE = 0.2  # seconds between two looks at the window's size
PAUSE, BACK, FORTH, EXPLAIN = (" ",), ("left",), ("right",), ("?",)
END = ("q", "escape")


def play(recording: Recording, pace: Pace, look: ViewOptions) -> None:
    """Every step for its time, on the screen that is asked for."""
    typed = Typed(sys.stdin.fileno()) if is_terminal(sys.stdin) else None
    with Live(recording.scene(), open_screen(look)) as live:
        Player(recording, pace, live, typed).run()


class Player:
    """A recording at one of its steps or tokens.

    Space pauses, arrows step, `?` explains, q and Esc end.
    """

    def __init__(
        self,
        recording: Recording,
        pace: Pace,
        live: Live,
        typed: Typed | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recording, self.pace, self.live = recording, pace, live
        self.typed, self.clock = typed, clock
        live.listens = False  # the keys are for this one
        frames = recording.frames
        self.ends = [number for number, frame in enumerate(frames, 1) if not frame.committed]
        self.legend = legend("diffusion" in recording.modes)
        self.at = 0  # the step that is shown
        self.due = 0.0  # when the next one is
        self.paused = False

    @property
    def last(self) -> int:
        """The number of the last step, from 0."""
        return len(self.ends) - 1

    def run(self) -> None:
        """Play until the last step has had its time, or somebody has seen enough."""
        self._show(0)
        while not self.live.gone:
            key = self._key()
            if key in END:
                return
            if key in PAUSE:
                self._pause(not self.paused)
            elif key in (*BACK, *FORTH):
                self._step(-1 if key in BACK else 1)
            elif key in EXPLAIN:
                self._explain()
            elif key is None and not self.paused and self.clock() >= self.due:
                if self.at == self.last:
                    return
                self._show(self.at + 1)

    def _key(self) -> str | None:
        """The next key; None where none comes before the next step, or before a look around."""
        left = GLANCE if self.paused else min(max(self.due - self.clock(), 0.0), GLANCE)
        if left >= 1 / REDRAWS_PER_SECOND:
            self._draw()
        if self.typed is not None:
            return self.typed.next(left)
        time.sleep(left)
        return None

    def _show(self, number: int) -> None:
        """Go on to a later step, drawn if the last drawing is long enough ago."""
        self.live.below = self._below(number)
        start = self.ends[self.at] if number else 0
        for frame in self.recording.frames[start : self.ends[number]]:
            self.live.step(frame)
        self.at = number
        self.due = self.clock() + self._seconds()
        if self._ends_canvas():
            self.live.settle()

    def _seconds(self) -> float:
        """The time of the step that is shown; the last of a canvas is seen at any pace."""
        if self.at == self.last:
            return HOLD_SECONDS
        seconds = self.pace.seconds(self.recording.frames[self.ends[self.at] - 1])
        return max(seconds, 1 / REDRAWS_PER_SECOND) if self._ends_canvas() else seconds

    def _ends_canvas(self) -> bool:
        if self.at == self.last:
            return True
        behind = self.recording.frames[self.ends[self.at]]
        return behind.committed and behind.mode == "diffusion"

    def _step(self, by: int) -> None:
        """Pause at the step before or after."""
        number = min(max(self.at + by, 0), self.last)
        self.live.scene = self.recording.scene()
        for frame in self.recording.frames[: self.ends[number]]:
            self.live.scene.take(frame)
        self.at = number
        self._pause(True)

    def _pause(self, wanted: bool) -> None:
        self.paused = wanted
        self.due = self.clock() + self._seconds()
        self._draw_anew()

    def _explain(self) -> None:
        """Show the whole legend in place of the short one, or the other way round."""
        self.live.explains = not self.live.explains
        self._draw_anew()

    def _draw_anew(self) -> None:
        self.live.below = self._below(self.at)
        self.live.pending = True
        self.live.settle()

    def _draw(self) -> None:
        """Draw what is not yet drawn, or stands in a window of another size."""
        screen = self.live.screen
        before = screen.size
        self.live.pending = self.live.pending or screen.measure() != before
        self.live.settle()

    def _below(self, number: int) -> Sequence[Line]:
        """The keys that do something, and the short legend where the whole one is not shown."""
        legend = () if self.live.explains else (self.legend,)
        if self.typed is None:
            return legend
        does = "play" if self.paused else "pause"
        place = f"  paused at {number + 1} of {len(self.ends)}" if self.paused else ""
        hint = f"space {does}  ←→ step  ? legend  q end{place}"
        return ((Segment(hint, FAINT),), *legend)
