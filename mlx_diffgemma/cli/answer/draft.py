"""The canvas that is being denoised, kept for an interrupt or an error: the draft of an answer.

Tokens of mode ar are no draft: each is final when it is shown, and belongs to the answer.
"""

import sys

from ...conversation.parts import turn_reader
from ...conversation.turn import Turn
from ...generation.frame import Frame
from ...text.pieces import ANSWER
from ..terminal.screen import colour_system
from ..terminal.streams import harmless, is_terminal, say, tell

NOISE_NATS = 3.0  # of mean entropy: a canvas with more is mostly noise, and red in the view


class Draft:
    """The argmax canvas after the last step of a turn, as the live view shows it."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.read = turn_reader(turn)
        self.frame: Frame | None = None

    def take(self, frame: Frame) -> None:
        """Take every frame, in order; a finished canvas is no draft any more."""
        self.frame = None if frame.committed or frame.mode == "ar" else frame
        if frame.committed:
            self.read(frame)  # bytes and thoughts may go on in the next canvas

    def text(self) -> str:
        """The part of the answer that stands on the canvas; "" where that is mostly noise."""
        frame = self.frame
        if frame is None or frame.mean_entropy >= NOISE_NATS:
            return ""
        parts = self.read(frame)
        shown = zip(parts.pieces[: self._room()], parts.roles, strict=False)
        return self._stopped("".join(piece for piece, role in shown if role == ANSWER))

    def place(self) -> str:
        """The canvas and its step, as in "canvas 2 after step 12 of 48"."""
        if self.frame is None:
            return ""
        steps = self.turn.sampler.max_denoising_steps
        return f"canvas {self.frame.canvas + 1} after step {self.frame.step + 1} of {steps}"

    def _room(self) -> int | None:
        """Tokens that the answer may still take; None for as many as there are."""
        most = self.turn.settings.max_tokens
        return None if most is None else most - sum(len(f.tokens) for f in self.turn.committed)

    def _stopped(self, text: str) -> str:
        """The text up to the first stop text, which may begin in a finished canvas."""
        before = self.turn.reply().text
        whole = before + text
        found = (whole.find(stop) for stop in self.turn.settings.stop)
        return whole[len(before) : min((at for at in found if at >= 0), default=None)]


def show_draft(draft: Draft, text: str) -> None:
    """Print a draft on standard error under a line that calls it one; dim where colours are on."""
    say(f"draft, {draft.place()}:")
    dim = is_terminal(sys.stderr) and colour_system() is not None
    for line in harmless(text).strip("\n").split("\n"):
        tell(line, dim=dim)
