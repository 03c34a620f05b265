"""Video files, decoded by PyAV: only those stretches in which a frame is wanted."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import DiffGemmaError, ImageError, one_line, shown
from .formats import HEAD_BYTES, MOST_PIXELS, container_of, require_size
from .libraries import require_av
from .pixels import Pixels, Source
from .prepare import Opened

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

SLACK = Fraction(1, 2)  # seconds by which a file may end before the length that it states
MICROSECOND = Fraction(1, 1_000_000)  # the unit of a container's duration
TURNS = {90: "ROTATE_90", 180: "ROTATE_180", 270: "ROTATE_270"}  # degrees, counter-clockwise


@dataclass
class Extent:
    """The first moment and the end of some packets, in seconds of the file's own clock.

    last: the start of the packet that comes last on view; with B-frames it is stored earlier.
    """

    first: Fraction | None = None
    last: Fraction = Fraction(0)
    end: Fraction = Fraction(0)

    def add(self, start: Fraction, length: Fraction) -> None:
        """One more packet."""
        self.first = start if self.first is None else min(self.first, start)
        if start >= self.last:
            self.last, self.end = start, start + length

    @property
    def seconds(self) -> Fraction:
        """The time from the one to the other."""
        return self.end - (self.first or 0)


class Film:
    """A video file, looked through without decoding: its length, and its keyframes, those that
    are decoded without a frame before them.

    open_file: opens it anew at each call; name: for errors.
    """

    def __init__(self, open_file: Callable[[], BinaryIO], name: str, source: Source) -> None:
        require_av(name)
        self.open_file, self.name, self.origin = open_file, name, source
        self.count = packets = 0
        self.keyframes: list[tuple[Fraction, int]] = []  # start, number of the packet
        self.shown, everything = Extent(), Extent()
        with self._opened() as (container, video):
            for packet in container.demux():
                pictures = packet.stream_index == video.index and packet.size > 0
                self._note(packet, packets if pictures else None, everything)
                packets += pictures
            stated = (container.duration or 0) * MICROSECOND
        self._require_whole(stated, everything)
        self.seconds = self.shown.seconds
        if self.shown.end == self.shown.last:  # the last packet states no length of its own
            self.seconds += self._usual_length()

    def at(self, times: list[Fraction]) -> Iterator[Opened]:
        """The frame on view at each time, upright."""
        wanted = deque((self.shown.first or 0) + time for time in times)
        with self._opened() as (container, video):
            for frame in self._frames(container, video, wanted):
                if frame.is_corrupt:
                    raise ImageError(
                        f"{self.name}: a broken video (damaged frames); send it again."
                    )
                image = _upright(frame)
                yield Opened(image, self.origin, *image.size)

    def source(self, frames: list[Pixels]) -> Source:
        """The file's."""
        return self.origin

    @contextmanager
    def _opened(self) -> Iterator[tuple["InputContainer", "VideoStream"]]:
        """The file and the first video in it; a container's format is not guessed, since among
        PyAV's are lists of other files and of addresses."""
        import av

        with _reading(self.name), self.open_file() as file:
            kind = container_of(file.read(HEAD_BYTES))
            file.seek(0)
            with av.open(file, "r", format=kind) as container:
                videos = [v for v in container.streams.video if not _is_cover(v)]
                if not videos:
                    raise ImageError(f"{self.name}: no video in it, expected at least one frame.")
                require_size((videos[0].width, videos[0].height), self.name)
                videos[0].codec_context.options = {"max_pixels": str(MOST_PIXELS)}
                videos[0].thread_type = "AUTO"
                yield container, videos[0]

    def _note(self, packet: "Packet[Any]", number: int | None, everything: Extent) -> None:
        """Take in one packet of any stream; ImageError for one of which a part is missing.

        number: among those of the video; what an edit list leaves out is decoded and not shown.
        """
        if packet.is_corrupt:
            raise ImageError(f"{self.name}: an incomplete video; send it again.")
        start = packet.dts if packet.pts is None else packet.pts
        if start is None:
            return
        tick = _fraction(packet.time_base)
        if number is not None and packet.is_keyframe:
            self.keyframes.append((start * tick, number))
        if not packet.is_discard:
            everything.add(start * tick, (packet.duration or 0) * tick)
            if number is not None:
                self.count += 1
                self.shown.add(start * tick, (packet.duration or 0) * tick)

    def _require_whole(self, stated: Fraction, everything: Extent) -> None:
        if not self.count:
            raise ImageError(f"{self.name}: a video of 0 frames, expected at least one.")
        there = max(everything.seconds, everything.end)
        if stated > there + SLACK:
            raise ImageError(
                f"{self.name}: an incomplete video, {float(there):.1f} of {float(stated):.1f} "
                "seconds; send it again."
            )

    def _usual_length(self) -> Fraction:
        """Seconds from a frame to the next; one for a single frame, as for a still image."""
        gaps = self.count - 1
        apart = self.shown.last - (self.shown.first or 0)
        return apart / gaps if gaps and apart else Fraction(1)

    def _frames(
        self, container: "InputContainer", video: "VideoStream", wanted: deque[Fraction]
    ) -> Iterator["VideoFrame"]:
        """The last frame that begins at or before each wanted time; consumes the times."""
        number, skipped, latest = -1, False, None
        for packet in container.demux(video):
            number += packet.size > 0
            if not _ends(packet) and (not packet.size or number < self._keyframe(wanted[0])):
                skipped = skipped or packet.size > 0
                continue
            if skipped:
                video.codec_context.flush_buffers()
                skipped, latest = False, None
            for frame in packet.decode():
                while wanted and _start(frame) > wanted[0]:
                    wanted.popleft()
                    yield latest or frame
                latest = frame
            if not wanted:
                return
        if latest is None:
            raise ImageError(f"{self.name}: a broken video (no frame can be decoded).")
        for _ in wanted:
            yield latest

    def _keyframe(self, time: Fraction) -> int:
        """The number of the packet from which to decode for the frame on view at a time."""
        at = bisect_right(self.keyframes, time, key=lambda known: known[0])
        return self.keyframes[at - 1][1] if at else 0


def _is_cover(video: "VideoStream") -> bool:
    """True for the picture on the cover of a recording."""
    from av.stream import Disposition

    return bool(video.disposition & Disposition.attached_pic)


def _ends(packet: "Packet[Any]") -> bool:
    """True for the empty packet behind the last one: it asks for what the decoder still holds."""
    return not packet.size and packet.dts is None


def _start(frame: "VideoFrame") -> Fraction:
    """The start of a frame in seconds; one without a time comes before all others."""
    return Fraction(-1) if frame.pts is None else frame.pts * _fraction(frame.time_base)


def _fraction(number: Any) -> Fraction:
    """A Fraction of PyAV's, or of its own type that took their place in version 19."""
    return Fraction(number.numerator, number.denominator)


def _upright(frame: "VideoFrame") -> "Image":
    from PIL.Image import Transpose

    image: Image = frame.to_image()
    turn = TURNS.get(frame.rotation % 360)
    return image.transpose(Transpose[turn]) if turn else image


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """A stretch in which PyAV reads: all that it raises becomes an ImageError."""
    try:
        yield
    except DiffGemmaError:
        raise
    except Exception as error:
        said = shown(one_line(error), 80)
        raise ImageError(
            f"{name}: a broken or incomplete video ({said}); send it again."
        ) from error
