"""Which view a turn gets: the live one, a line a step, or none."""

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from .live import Live
from .picture import Run
from .scene import Scene, turn_reader
from .screen import Screen, can_draw
from .steps import StepLines
from .streams import is_terminal

if TYPE_CHECKING:
    from ...conversation.turn import Turn
    from ...diffusion.denoise import Frame


@dataclass(frozen=True)
class Display:
    """What of an answer is shown where."""

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


class View(Protocol):
    """Shows steps; behind its `with`, the terminal is as it was."""

    def step(self, frame: "Frame") -> None:
        """Takes every frame, in order."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class NoView:
    """Shows nothing."""

    def step(self, frame: "Frame") -> None:
        """Nothing to show."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to give back."""


def open_view(
    turn: "Turn", display: Display, screen: Screen | None = None, above: tuple[Run, ...] = ()
) -> View:
    """The view that `display` asks for; `above` stands over the live one from the beginning."""
    num_steps = turn.sampler.max_denoising_steps
    if not display.visual:
        return NoView()
    if not display.live:
        return StepLines(num_steps)
    import mlx.core as mx

    task = None if turn.raw else turn.engine.task
    layout = task.layout if task else None
    scene = Scene(turn_reader(turn), num_steps, layout, above, mx.get_active_memory)
    return Live(scene, screen or Screen())
