"""The view that a turn gets: the live one, a line a step, or none."""

import sys
from dataclasses import dataclass

import mlx.core as mx

from ...conversation.parts import turn_reader
from ...conversation.turn import Turn
from .live import Live
from .picture import Run
from .scene import Scene
from .screen import Screen, can_draw
from .steps import StepLines, View
from .streams import is_terminal


@dataclass(frozen=True)
class Display:
    """The parts of an answer that are shown, and in which form."""

    json: bool
    visual: bool  # every step or token is shown ...
    live: bool  # ... by drawing, not as a line
    streaming: bool  # the text appears as it comes, canvas by canvas or token by token


def choose_display(turn: Turn, as_json: bool, visual: bool | None) -> Display:
    """A puzzle's answer is checked before it is shown; on a terminal the text follows the view."""
    terminal = is_terminal(sys.stdout)
    drawing = can_draw(sys.stderr)
    if visual is None:
        visual = terminal and drawing and not as_json
    streaming = not (as_json or turn.task or (visual and terminal))
    return Display(as_json, visual, visual and drawing, streaming)


def open_view(
    turn: Turn, display: Display, screen: Screen | None = None, above: tuple[Run, ...] = ()
) -> View:
    """The view that `display` asks for; `above` stands over the live one from the beginning.

    A turn that is looked at tells the entropies of tokens, which cost a pass over the vocabulary.
    """
    num_steps = turn.sampler.max_denoising_steps
    if not display.visual:
        return View()
    turn.watched = True
    if not display.live:
        return StepLines(num_steps)
    layout = turn.task.layout if turn.task else None
    scene = Scene(
        turn_reader(turn),
        num_steps,
        layout,
        above,
        mx.get_active_memory,
        asked=turn.settings.mode,
        threshold=turn.sampler.confidence_threshold,
    )
    return Live(scene, screen or Screen())
