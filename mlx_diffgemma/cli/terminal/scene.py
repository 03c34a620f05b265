"""A generation as the live view knows it: takes frames, gives the Snapshot to draw.

Taking a frame costs microseconds, since most are never drawn; a Snapshot reads the canvas's tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...assets import Layout
from ...conversation.turn import Turn
from ...generation.frame import Frame
from ...text.pieces import Parts
from ...text.reader import AnswerReader
from .picture import Run, Snapshot, runs
from .status import Numbers

SCROLLBACK = 20_000  # characters of finished text that are kept for drawing

Reader = Callable[[Frame], Parts]
"""Texts and roles of a frame's tokens; frames come in order."""


def turn_reader(turn: Turn) -> Reader:
    """The reader of a turn's frames, with the session's tokenizer."""
    pieces = AnswerReader(turn.session.tokenizer, turn.stop_ids)

    def read(frame: Frame) -> Parts:
        ids = frame.tokens.tolist()
        return pieces.finish(ids) if frame.committed else pieces.read(ids)

    return read


@dataclass
class Scene:
    """A generation as it goes on."""

    read: Reader
    num_steps: int
    layout: Layout | None = None
    finished: tuple[Run, ...] = ()  # what stands above from the beginning, then finished canvases
    memory: Callable[[], int] | None = None
    frame: Frame | None = None
    changed: NDArray[np.bool_] | None = None
    committed: int = 0  # tokens that were denoised
    steps: int = 0
    seconds: float = 0.0

    def take(self, frame: Frame) -> None:
        """Go on by one frame."""
        if frame.committed:
            self._finish(frame)
            return
        before = self.frame
        if before is not None and before.canvas == frame.canvas:
            self.changed = before.tokens != frame.tokens
        else:
            self.changed = np.ones(frame.tokens.shape, np.bool_)
            self.seconds += frame.encode_seconds
        self.frame = frame
        self.steps += 1
        self.seconds += frame.seconds

    def snapshot(self) -> Snapshot | None:
        """The canvas after the last step; None where there is none, or it is finished."""
        frame = self.frame
        if frame is None or self.changed is None:
            return None
        parts = self.read(frame)
        return Snapshot(
            pieces=parts.pieces,
            roles=parts.roles,
            entropies=frame.entropies,
            accepted=frame.accepted,
            changed=self.changed,
            finished=self.finished,
            numbers=self._numbers(frame),
            layout=self.layout,
        )

    def _numbers(self, frame: Frame) -> Numbers:
        accepted = frame.num_accepted
        tokens = self.committed + accepted
        return Numbers(
            canvas=frame.canvas,
            step=frame.step,
            num_steps=self.num_steps,
            accepted=accepted,
            num_denoised=frame.num_denoised,
            mean_entropy=frame.mean_entropy,
            step_seconds=frame.seconds,
            tokens_per_step=tokens / self.steps,
            tokens_per_second=tokens / self.seconds if self.seconds else None,
            memory_bytes=self.memory() if self.memory else None,
        )

    def _finish(self, frame: Frame) -> None:
        parts = self.read(frame)
        self.finished = _shortened((*self.finished, *runs(parts.pieces, parts.roles)))
        self.committed += frame.num_denoised
        self.frame = self.changed = None


def _shortened(finished: tuple[Run, ...]) -> tuple[Run, ...]:
    """The end of a long text: more than any screen shows."""
    room = SCROLLBACK
    kept: list[Run] = []
    for text, role in reversed(finished):
        kept.append((text[-room:], role))
        room -= len(text)
        if room <= 0:
            break
    return tuple(reversed(kept))
