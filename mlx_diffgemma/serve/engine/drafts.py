"""Drafts: canvases as they settle, told in the same words as the terminal's picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...conversation.scene import Changes, drawn
from ...conversation.turn import Turn
from ...generation.frame import Frame
from ...text.pieces import ANSWER
from ..events import Draft


@dataclass
class Drafts:
    """The drafts of one answer; every frame is taken, in order."""

    changes: Changes = field(default_factory=Changes)

    def take(self, turn: Turn, frame: Frame) -> Draft | None:
        """The draft that a frame is; None for what is finished, and stays as it is."""
        self.changes.take(frame)
        if frame.committed or frame.mode == "ar":
            return None
        parts = turn.reader.read(frame.tokens.tolist())
        pairs = zip(parts.pieces, parts.roles, strict=True)
        return Draft(
            text="".join(piece for piece, role in pairs if role == ANSWER),
            canvas=frame.canvas,
            step=frame.step,
            steps=turn.sampler.max_denoising_steps,
            accepted=frame.num_accepted,
            mean_entropy=frame.mean_entropy,
            runs=tuple(drawn(frame, parts, self.changes.changed).runs()),
        )
