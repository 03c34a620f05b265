"""The view that a turn gets: the live one, a line a step, a line of numbers, or none."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from ...conversation.parts import turn_reader
from ...conversation.scene import Run
from ...conversation.turn import Turn
from .live import Live
from .scene import Scene
from .screen import Screen
from .steps import PassingNumbers, StepLines, View
from .streams import can_draw, is_piped, is_terminal


@dataclass(frozen=True)
class Display:
    """The parts of an answer that are shown, and in which form."""

    json: bool
    visual: bool  # every step or token is shown ...
    live: bool  # ... by drawing, not as a line
    streaming: bool  # the text appears as it comes, canvas by canvas or token by token
    passing: bool = False  # a line of numbers stands on standard error in the meantime


def choose_display(turn: Turn, as_json: bool, visual: bool | None) -> Display:
    """What comes whole is shown at its end; on a terminal the text follows the view.

    Where nothing else would show, and nobody has asked for that, a line of numbers does.
    """
    terminal = is_terminal(sys.stdout)
    drawing = can_draw(sys.stderr)
    passing = visual is None and drawing and not terminal
    if visual is None:
        visual = terminal and drawing and not as_json
    streaming = not (as_json or turn.comes_whole or (visual and terminal))
    return Display(as_json, visual, visual and drawing, streaming, passing)


def open_view(
    turn: Turn, display: Display, screen: Callable[[], Screen], above: tuple[Run, ...] = ()
) -> View:
    """The view that `display` asks for, on a `screen` that is opened where it takes one.

    `above` stands over the live one from the beginning, unless the shell's screen shows it anyway.
    A turn that is looked at tells the entropies of tokens, which cost a pass over the vocabulary.
    """
    if display.passing:
        return PassingNumbers(_scene(turn), till_text=display.streaming and is_piped(sys.stdout))
    if not display.visual:
        return View()
    turn.watched = True
    if not display.live:
        return StepLines(turn.sampler.max_denoising_steps)
    opened = screen()
    return Live(_scene(turn, () if opened.surface.keeps_shell else above), opened)


def _scene(turn: Turn, above: tuple[Run, ...] = ()) -> Scene:
    return Scene(
        turn_reader(turn),
        turn.sampler.max_denoising_steps,
        turn.task.layout if turn.task else None,
        above,
        mx.get_active_memory,
        asked=turn.settings.mode,
        threshold=turn.sampler.confidence_threshold,
        most=turn.settings.max_tokens,
    )
