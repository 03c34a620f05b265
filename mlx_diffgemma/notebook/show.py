"""A turn run to its end, seen in the cell of a notebook while it goes on.

IPython is never imported: where it runs, it is there already.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

from ..conversation.fill import FillTurn
from ..conversation.parts import turn_reader
from ..conversation.reply import Filled, Reply
from ..conversation.scene import FINISHED, THOUGHT, Run, drawn, finished
from ..conversation.turn import Turn
from ..generation.frame import Frame
from .page import Shown, html

EVERY_SECONDS = 0.1  # between two updates: each goes to the browser whole


@overload
def show(turn: FillTurn) -> Filled: ...
@overload
def show(turn: Turn) -> Reply: ...
def show(turn: Turn) -> Reply:
    """The reply of a turn, `session.turn(...)` or `session.fill_turn(...)`, run here.

    In a notebook the cell shows the canvas as it settles, then the answer; elsewhere nothing is
    shown. An interrupt leaves what was finished in view, and `turn.reply()` has it.
    """
    view = View(turn, update) if (update := cell_output()) else None
    try:
        for frame in turn:
            if view:
                view.take(frame)
    finally:
        reply = turn.reply()
        if view:
            view.end(reply)
    return reply


def cell_output() -> Callable[[str, str], None] | None:
    """A function that puts HTML, and the same as plain text, into the running cell's output.

    None where no notebook runs: in a script, in Python's own prompt and in IPython's.
    """
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    handle: Any = None

    def update(page: str, text: str) -> None:
        nonlocal handle
        bundle = {"text/html": page, "text/plain": text}
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return update


@dataclass
class View:
    """What a cell has been shown of a turn."""

    turn: Turn
    update: Callable[[str, str], None]
    finished: list[Run] = field(default_factory=list)
    last: float = 0.0  # when something was shown

    def __post_init__(self) -> None:
        self.read = turn_reader(self.turn)

    def take(self, frame: Frame) -> None:
        """Show a frame, if the last one has been seen for a while."""
        if frame.committed:
            self.finished += finished(self.read(frame))
            return
        if time.monotonic() - self.last < EVERY_SECONDS:
            return
        parts = self.read(frame)
        now = finished(parts) if frame.mode == "ar" else drawn(frame, parts).runs()
        self._show(Shown([*self.finished, *now], repr(frame), frame.mode != "ar"), repr(frame))
        self.last = time.monotonic()

    def end(self, reply: Reply) -> None:
        """Show the answer in place of what led to it."""
        thought = [(f"{reply.thinking}\n\n", THOUGHT)] if reply.thinking else []
        self._show(Shown([*thought, (reply.text, FINISHED)], repr(reply)), reply.text)

    def _show(self, shown: Shown, text: str) -> None:
        self.update(html(shown), text)
