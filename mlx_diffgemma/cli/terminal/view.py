"""The view that a turn gets: the live one, a line a step, or none."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .live import Live
from .picture import Run
from .scene import Scene, turn_reader
from .screen import Screen, can_draw
from .steps import StepLines, View
from .streams import is_terminal

if TYPE_CHECKING:
    from ...conversation.turn import Turn


@dataclass(frozen=True)
class Display:
    """The parts of an answer that are shown, and in which form."""

    json: bool
    visual: bool  # every step is shown ...
    live: bool  # ... by drawing, not as a line
    streaming: bool  # the text appears canvas by canvas, not at the end


def choose_display(as_json: bool, visual: bool | None, puzzle: bool) -> Display:
    """A puzzle's answer is checked before it is shown; on a terminal the text follows the view."""
    terminal = is_terminal(sys.stdout)
    drawing = can_draw(sys.stderr)
    if visual is None:
        visual = terminal and drawing and not as_json
    streaming = not (as_json or puzzle or (visual and terminal))
    return Display(as_json, visual, visual and drawing, streaming)


def open_view(
    turn: "Turn", display: Display, screen: Screen | None = None, above: tuple[Run, ...] = ()
) -> View:
    """The view that `display` asks for; `above` stands over the live one from the beginning."""
    num_steps = turn.sampler.max_denoising_steps
    if not display.visual:
        return View()
    if not display.live:
        return StepLines(num_steps)
    import mlx.core as mx

    task = None if turn.raw else turn.session.task
    layout = task.layout if task else None
    scene = Scene(turn_reader(turn), num_steps, layout, above, mx.get_active_memory)
    return Live(scene, screen or Screen())
