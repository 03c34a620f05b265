"""A frame as it is drawn: one definition for the terminal, the notebook and the browser."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ..generation.certainty import EDGES
from ..generation.frame import Frame
from ..text.pieces import ANSWER, BEHIND, CONTROL, THINKING, Parts

DOT = "·"
"""Stands for what has no text of its own."""

FINISHED, ACCEPTED, CHANGED, THOUGHT, FAINT = "", "a", "u", "t", "f"

Run = tuple[str, str]
"""A stretch of text, and its classes, by spaces: c0 to c4 (certainty, generation/certainty.py),
a (accepted), u (changed by this step), t (thought), f (faint: no part of the answer)."""


@dataclass(frozen=True)
class Drawn:
    """A segment after a step, one entry a position; control tokens show a dot.

    levels: of certainty, places in CERTAINTIES; accepted: for the next step; changed: by this one.
    A token that was written is neither: none comes again.
    """

    pieces: tuple[str, ...]
    roles: str
    levels: NDArray[np.intp]
    accepted: NDArray[np.bool_]
    changed: NDArray[np.bool_]

    def runs(self) -> list[Run]:
        """The segment as text with classes; behind the end, and in a control token, FAINT alone."""
        return joined(zip(self.pieces, self._classes(), strict=True))

    def _classes(self) -> Iterator[str]:
        facts = (self.levels.tolist(), self.accepted.tolist(), self.changed.tolist())
        for role, level, accepted, changed in zip(self.roles, *facts, strict=True):
            if role in (CONTROL, BEHIND):
                yield FAINT
                continue
            told = (ACCEPTED, accepted), (CHANGED, changed), (THOUGHT, role == THINKING)
            yield " ".join((f"c{level}", *(kind for kind, holds in told if holds)))


@dataclass
class Changes:
    """The frames of a generation, taken in order; changed: by the last one, a flag a position.

    Both are None behind a commit. Taking a frame costs microseconds, since most are never drawn.
    """

    frame: Frame | None = None
    changed: NDArray[np.bool_] | None = None

    def take(self, frame: Frame) -> None:
        """Go on by one frame; the first step of a canvas changes all of it."""
        before = self.frame
        if frame.committed:
            self.frame = self.changed = None
        elif before is not None and before.canvas == frame.canvas and frame.mode == "diffusion":
            self.frame, self.changed = frame, before.tokens != frame.tokens
        else:
            self.frame, self.changed = frame, np.ones(frame.tokens.shape, np.bool_)


def drawn(frame: Frame, parts: Parts, changed: NDArray[np.bool_] | None = None) -> Drawn:
    """A frame as it is drawn; changed: see Changes, None where nobody has the step before."""
    none = np.zeros(frame.tokens.shape, np.bool_)
    written = frame.mode == "ar"
    both = zip(parts.pieces, parts.roles, strict=True)
    return Drawn(
        pieces=tuple(DOT if role == CONTROL else piece for piece, role in both),
        roles=parts.roles,
        levels=np.digitize(frame.entropies, EDGES),
        accepted=none if written else frame.accepted,
        changed=none if written or changed is None else changed,
    )


def finished(parts: Parts) -> list[Run]:
    """Tokens that will not change as text, thoughts apart; control tokens show nothing."""
    both = zip(parts.pieces, parts.roles, strict=True)
    return joined(
        (piece, THOUGHT if role == THINKING else FINISHED)
        for piece, role in both
        if role in (ANSWER, THINKING)
    )


def joined(runs: Iterable[Run]) -> list[Run]:
    """Neighbours of one kind as one run; what shows nothing is left out."""
    groups = groupby((run for run in runs if run[0]), key=lambda run: run[1])
    return [("".join(text for text, _ in group), kind) for kind, group in groups]
