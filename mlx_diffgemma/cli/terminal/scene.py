"""A generation as the live view knows it: takes frames, gives the Snapshot to draw.

Taking a frame costs microseconds, since most are never drawn; a Snapshot reads the tokens of its
segment.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ...assets import Layout
from ...conversation.parts import Reader
from ...conversation.scene import Changes, Run, drawn, finished
from ...generation.frame import Frame
from .picture import Snapshot
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
    changes: Changes = field(default_factory=Changes)
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
        before = self.changes.frame
        self.changes.take(frame)
        same = before is not None and before.canvas == frame.canvas
        if before is None or before.mode != frame.mode:
            self.paces.clear()
        self.paces.append(frame.seconds)
        if not same:
            self.seconds += frame.encode_seconds
        if frame.mode == "diffusion":
            self.steps += 1
        self.seconds += frame.seconds

    def numbers(self) -> Numbers | Written | None:
        """The numbers after the last step or token; None where there is none, or it is finished."""
        frame = self.changes.frame
        if frame is None:
            return None
        return self._written(frame) if frame.mode == "ar" else self._numbers(frame)

    def snapshot(self) -> Snapshot | None:
        """The segment after the last step or token; None where there is none, or it is finished."""
        frame, numbers = self.changes.frame, self.numbers()
        if frame is None or numbers is None:
            return None
        now = drawn(frame, self.read(frame), self.changes.changed)
        return Snapshot(now, self.finished, numbers, self.layout, written=frame.mode == "ar")

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
        self.changes.take(frame)
        self.finished = _shortened((*self.finished, *finished(self.read(frame))))
        self.committed += frame.num_denoised
        if frame.mode == "diffusion":
            self.denoised += frame.num_denoised


def _shortened(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The end of a long text: more than any screen shows."""
    room = SCROLLBACK
    kept: list[Run] = []
    for text, kind in reversed(runs):
        kept.append((text[-room:], kind))
        room -= len(text)
        if room <= 0:
            break
    return tuple(reversed(kept))
