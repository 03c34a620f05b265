"""Events of an answer that is being made, in the order in which a client hears of them.

Text, thought and calls are final: nothing takes them back. A draft is replaced by the next one, or
by what its canvas becomes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..conversation.reply import ConstraintInfo
from ..conversation.scene import Run
from .refusal import Refusal

Finish = Literal["stop", "length", "tool_calls", "stop_text"]
"""stop_text: a text of `Settings.stop` came; most dialects call it stop."""


@dataclass(frozen=True)
class Begun:
    """The model has taken the question up; cached: prompt tokens that need not be encoded."""

    seed: int
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Text:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True)
class Thought:
    """More of the thought in front of the text."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call of a tool, whole; key: letters and digits that tell it apart, without a prefix."""

    key: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """A canvas after a denoising step; accepted: of its positions, steps: that it may take.

    text: of the canvas, as far as it would be of the answer; runs: all of it as the terminal shows
    it.
    """

    text: str
    canvas: int
    step: int
    steps: int
    accepted: int
    mean_entropy: float
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens; completion counts what was generated, thought included, not whole canvases."""

    prompt: int
    completion: int
    cached: int = 0
    thought: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds of the prompt's encoding and of all, and denoising steps; `x_timings`."""

    prefill: float
    seconds: float
    steps: int
    tokens_per_step: float | None


@dataclass(frozen=True)
class Done:
    """The end of an answer. warnings: all of them, those of the request first.

    stop: the text that ended it, with finish stop_text; holes: the texts of a template's.
    """

    finish: Finish
    usage: Usage
    timings: Timings
    seed: int
    warnings: tuple[str, ...] = ()
    stop: str | None = None
    constraint: ConstraintInfo | None = None
    holes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Failed:
    """An answer that cannot go on, after something of it may have been sent."""

    refusal: Refusal


Event = Begun | Text | Thought | Call | Draft | Done | Failed


@dataclass
class Answer:
    """All that was said, for those who want it at once; made of the events in order."""

    text: str = ""
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    done: Done | None = None

    def take(self, event: Event) -> None:
        """Add an event; the refusal of a failed one is raised."""
        if isinstance(event, Text):
            self.text += event.text
        elif isinstance(event, Thought):
            self.thought += event.text
        elif isinstance(event, Call):
            self.calls.append(event)
        elif isinstance(event, Done):
            self.done = event
        elif isinstance(event, Failed):
            raise event.refusal
