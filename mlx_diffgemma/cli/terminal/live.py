"""The live view of a generation: its scene drawn on a screen, and not too often."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...generation.frame import Frame
from .legend import explained
from .picture import render
from .scene import Scene
from .screen import Screen
from .steps import View
from .wrap import Line

REDRAWS_PER_SECOND = 12
SHARE = 0.025  # of the time may go into drawing ...
LONGEST_GAP = 1.0  # ... unless nothing were drawn for so many seconds
HINTS = {False: "? legend", True: "? hides"}


class Live(View):
    """Each step, or token, drawn when it is there: the first at once, then at most 12 a second.

    On a slow terminal or a busy machine it draws less often rather than keep the model waiting.
    A terminal that goes away ends the view, not the generation.
    """

    def __init__(
        self, scene: Scene, screen: Screen, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.scene, self.screen, self.clock = scene, screen, clock
        self.drawn_at: float | None = None
        self.gap = 1 / REDRAWS_PER_SECOND  # seconds to the next drawing
        self.floor = 0  # rows of text so far: the status line goes down, not up and down
        self.columns = 0
        self.below: Sequence[Line] = ()  # lines that stand below the status line
        self.explains = False  # the legend stands below the status line
        self.listens = True  # for `?`; else somebody else takes the keys
        self.gone = False
        self.pending = False  # a step or token has been taken that is not drawn

    def step(self, frame: Frame) -> None:
        """Take a frame, and draw it if it is time.

        Where pictures stay in sight, the last one of a canvas is always drawn.
        """
        if frame.committed and self.screen.surface.keeps_shell:
            self.settle()
        self.scene.take(frame)
        self.pending = not frame.committed
        now = self.clock()
        turned = self.listens and self.screen.pressed() % 2 == 1
        self.explains ^= turned
        if turned or self.drawn_at is None or now - self.drawn_at >= self.gap:
            self.settle()

    def settle(self) -> None:
        """Draw the last step if it is not yet drawn."""
        if not self.pending or self.gone:
            return
        now = self.clock()
        try:
            self._draw()
        except OSError:
            self.gone = True
        cost = self.clock() - now
        self.gap = max(1 / REDRAWS_PER_SECOND, min(cost / SHARE, LONGEST_GAP))
        self.drawn_at, self.pending = now, False

    def _draw(self) -> None:
        snapshot = self.scene.snapshot()
        if snapshot is None:
            return
        if self.drawn_at is None:
            self.screen.enter()
        size = self.screen.measure()
        floor = self.floor if size.columns == self.columns else 0
        hint = HINTS[self.explains] if self.listens and self.screen.listens else ""
        below = [*self.below, *self._explanation(size.columns)]
        picture = render(snapshot, replace(size, floor=floor), below, hint)
        self.screen.draw(picture)
        self.floor, self.columns = picture.status, size.columns

    def _explanation(self, columns: int) -> Sequence[Line]:
        return explained(columns, (self.scene.asked,)) if self.explains else ()

    def close(self) -> None:
        """Leave the screen."""
        self.screen.leave()
