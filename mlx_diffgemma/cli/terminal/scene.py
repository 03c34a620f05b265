"""A generation as the live view knows it: takes frames, gives the Snapshot to draw.

Taking a frame costs microseconds, since most are never drawn; a Snapshot reads the tokens of its
segment.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...assets import Layout
from ...conversation.parts import Reader
from ...generation.frame import Frame
from .picture import Run, Snapshot, runs
from .status import Left, Numbers, Written, steps_to_go

SCROLLBACK = 20_000  # characters of finished text that are kept for drawing
PACES = 4  # steps or tokens whose mean is the present pace


@dataclass
class Scene:
    """A generation as it goes on.

    finished: what stands above from the beginning, then finished segments; asked: the mode asked
    for; threshold: mean entropy in nats below which a canvas may end, most: tokens of the answer,
    None where nobody knows them.
    """

    read: Reader
    num_steps: int
    layout: Layout | None = None
    finished: tuple[Run, ...] = ()
    memory: Callable[[], int] | None = None
    asked: str = "diffusion"
    threshold: float | None = None
    most: int | None = None
    frame: Frame | None = None
    changed: NDArray[np.bool_] | None = None
    committed: int = 0  # finished tokens, pinned ones not among them
    denoised: int = 0  # of these, those of canvases
    steps: int = 0
    seconds: float = 0.0
    paces: deque[float] = field(default_factory=lambda: deque(maxlen=PACES))  # of one mode's steps

    def take(self, frame: Frame) -> None:
        """Go on by one frame."""
        if frame.committed:
            self._finish(frame)
            return
        before = self.frame
        same = before is not None and before.canvas == frame.canvas
        if before is None or before.mode != frame.mode:
            self.paces.clear()
        self.paces.append(frame.seconds)
        if not same:
            self.seconds += frame.encode_seconds
        if frame.mode == "diffusion":
            self.changed = (
                before.tokens != frame.tokens
                if before is not None and same
                else np.ones(frame.tokens.shape, np.bool_)
            )
            self.steps += 1
        self.frame = frame
        self.seconds += frame.seconds

    def numbers(self) -> Numbers | Written | None:
        """The numbers after the last step or token; None where there is none, or it is finished."""
        if self.frame is None:
            return None
        written = self.frame.mode == "ar"
        return self._written(self.frame) if written else self._numbers(self.frame)

    def snapshot(self) -> Snapshot | None:
        """The segment after the last step or token; None where there is none, or it is finished."""
        frame = self.frame
        numbers = self.numbers()
        if frame is None or numbers is None:
            return None
        parts = self.read(frame)
        written = frame.mode == "ar"
        changed = None if written else self.changed
        return Snapshot(
            pieces=parts.pieces,
            roles=parts.roles,
            entropies=frame.entropies,
            accepted=frame.accepted,
            changed=np.zeros(frame.tokens.shape, np.bool_) if changed is None else changed,
            finished=self.finished,
            numbers=numbers,
            layout=self.layout,
            written=written,
        )

    def _numbers(self, frame: Frame) -> Numbers:
        accepted = frame.num_accepted
        return Numbers(
            canvas=frame.canvas,
            step=frame.step,
            num_steps=self.num_steps,
            accepted=accepted,
            num_denoised=frame.num_denoised,
            mean_entropy=frame.mean_entropy,
            step_seconds=frame.seconds,
            tokens_per_step=(self.denoised + accepted) / self.steps,
            tokens_per_second=self._rate(self.committed + accepted),
            memory_bytes=self.memory() if self.memory else None,
            left=self._left(frame),
            asked=self.asked,
            strain=frame.strain,
        )

    def _written(self, frame: Frame) -> Written:
        tokens = self.committed + len(frame.tokens)
        return Written(
            tokens=tokens,
            entropy=float(frame.entropies[-1]),
            tokens_per_second=self._rate(tokens),
            memory_bytes=self.memory() if self.memory else None,
            left=None if self.most is None else Left(self._pace() * max(0, self.most - tokens)),
            most=self.most,
            asked=self.asked,
            strain=frame.strain,
        )

    def _left(self, frame: Frame) -> Left:
        """The rest of a canvas: by what entropy says near the end, else every step it may take."""
        likely = steps_to_go(frame.mean_entropy, self.threshold) if self.threshold else None
        most = self.num_steps - frame.step - 1
        if likely is not None and likely < most:
            return Left(self._pace() * likely, at_most=False)
        return Left(self._pace() * most)

    def _pace(self) -> float:
        """Seconds a step or token, of the last few of them."""
        return sum(self.paces) / len(self.paces)

    def _rate(self, tokens: int) -> float | None:
        return tokens / self.seconds if self.seconds else None

    def _finish(self, frame: Frame) -> None:
        parts = self.read(frame)
        self.finished = _shortened((*self.finished, *runs(parts.pieces, parts.roles)))
        self.committed += frame.num_denoised
        if frame.mode == "diffusion":
            self.denoised += frame.num_denoised
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
