"""The segments of an answer as its frames come: what is kept of them, and their times."""

from dataclasses import dataclass, field

from ..generation.frame import Frame
from .reply import Seconds, Segment


@dataclass
class Begun:
    """A segment of which a frame has come; steps: of them, in mode ar one a token.

    encode_seconds: of the encoder before it; seconds: of its steps so far; first, last: when the
    first and the last one came.
    """

    mode: str
    encode_seconds: float
    first: float
    last: float = 0.0
    steps: int = 0
    seconds: float = 0.0

    @property
    def shown(self) -> float:
        """The time from its first step to its last, with what the reader of the frames took."""
        return self.last - self.first


@dataclass
class Segments:
    """The segments of one answer. All tokens of mode ar are kept, of canvases the finished ones.

    first_canvas, first_token: seconds from the question to either; total: to the last frame.
    """

    committed: list[Frame] = field(default_factory=list)
    last: Frame | None = None
    begun: list[Begun] = field(default_factory=list)
    first_canvas: float | None = None
    first_token: float | None = None
    total: float = 0.0

    def take(self, frame: Frame, total: float) -> None:
        """Count a frame in that came `total` seconds after the question."""
        self.total = total
        if frame.canvas == len(self.begun):
            self.begun.append(Begun(frame.mode, frame.encode_seconds, total))
        segment = self.begun[frame.canvas]
        if not frame.committed:
            segment.last, segment.steps = total, frame.step + 1
        segment.seconds += frame.seconds
        if frame.mode == "ar" and self.first_token is None:
            self.first_token = total
        self.last = frame
        if frame.committed:
            self.committed.append(frame)
            if frame.mode == "diffusion" and self.first_canvas is None:
                self.first_canvas = total

    @property
    def unfinished(self) -> Frame | None:
        """The tokens of mode ar in work, which were shown and stay."""
        last = self.last
        if last is None or last.mode != "ar" or last.canvas < len(self.committed):
            return None
        return last

    @property
    def kept(self) -> list[Frame]:
        """The finished segments, and of mode ar also the one in work."""
        last = self.unfinished
        return [*self.committed, *([last] if last else ())]

    @property
    def ids(self) -> list[int]:
        """The ids of all that is kept."""
        return [int(token) for frame in self.kept for token in frame.tokens]

    @property
    def denoised(self) -> list[Frame]:
        """The finished canvases."""
        return [frame for frame in self.committed if frame.mode == "diffusion"]

    @property
    def finish_reason(self) -> str | None:
        """The reason that the answer has come to its end; None where it has not."""
        return self.committed[-1].finish_reason if self.committed else None

    def told(self) -> tuple[Segment, ...]:
        """Each segment as a Reply tells of it; nothing is kept of a canvas in work."""
        kept = {frame.canvas: frame.num_denoised for frame in self.kept}
        return tuple(
            Segment(
                segment.mode,
                kept.get(number, 0),
                segment.steps if segment.mode == "diffusion" else None,
                segment.seconds,
            )
            for number, segment in enumerate(self.begun)
        )

    def seconds(self, load: float) -> Seconds:
        """The times as a Reply tells of them; load: of the session."""
        encoded = [segment.encode_seconds for segment in self.begun]
        return Seconds(
            load=load,
            prefill=encoded[0] if encoded else 0.0,
            denoise=self._seconds_of("diffusion"),
            commit=sum(encoded[1:], 0.0),
            write=self._seconds_of("ar"),
            first_canvas=self.first_canvas,
            first_token=self.first_token,
            total=self.total,
        )

    def _seconds_of(self, mode: str) -> float:
        """The time of all steps, or tokens, of a mode."""
        return sum((segment.seconds for segment in self.begun if segment.mode == mode), 0.0)
