"""A file that `--trace` wrote, read again and checked line by line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ...assets import Layout
from ...generation.frame import Frame
from ...machine.files import parse_json, read_bytes
from ...text.pieces import ANSWER, Parts
from ..errors import FileError, reason
from ..terminal.scene import Scene
from .lines import FIRST_FORMAT, Entry, Header, Line, Segment, Token, header, later_line
from .trace import FORMAT

AGAIN = "record it again with `generate --trace`"


@dataclass(frozen=True)
class Recording:
    """A generation: its frames in order, and the texts of their tokens.

    prompt: None in traces of versions that kept none. refused: what `generate` said of an
    answer that does not solve its puzzle. finished: the answer has come to its end. asked,
    threshold: see Scene. written: of each segment of mode ar, the parts of its tokens.
    """

    num_steps: int
    layout: Layout | None
    frames: tuple[Frame, ...]
    parts: Mapping[tuple[int, int, bool], Parts]
    answer: str
    prompt: str | None = None
    refused: str | None = None
    finished: bool = True
    asked: str = "diffusion"
    threshold: float | None = None
    written: Mapping[int, Parts] = field(default_factory=dict)

    @property
    def kept(self) -> list[Frame]:
        """The finished segments, and of mode ar also the one in work."""
        last = self.frames[-1]
        unfinished = [last] if last.mode == "ar" and not last.committed else []
        return [*(frame for frame in self.frames if frame.committed), *unfinished]

    @property
    def modes(self) -> set[str]:
        """The modes of its segments."""
        return {frame.mode for frame in self.frames}

    def read(self, frame: Frame) -> Parts:
        """A frame's texts and roles."""
        if frame.mode == "ar" and not frame.committed:
            whole, end = self.written[frame.canvas], len(frame.tokens)
            return Parts(whole.pieces[:end], whole.roles[:end])
        return self.parts[_key(frame)]

    def scene(self) -> Scene:
        """The scene before the first frame."""
        return Scene(
            self.read, self.num_steps, self.layout, asked=self.asked, threshold=self.threshold
        )


def read_recording(file: Path) -> Recording:
    """FileError for what is no trace, of another format, cut off or without a step."""
    try:
        content = read_bytes(file)
    except OSError as error:
        raise FileError(f"the trace cannot be read: {reason(error)}.") from error
    lines = list(_lines(file, content))
    if not lines:
        _refuse(file, "is empty, expected a trace", AGAIN)
    _require_trace(file, lines[0])
    with _checking(file, 1):
        first = header(lines[0])
    return _recording(first, _checked(file, lines, first))


def _checked(file: Path, lines: Sequence[dict[str, Any]], first: Header) -> list[Line]:
    """The lines behind the header, each right in itself and in its place."""
    order, read = _Order(), list[Line]()
    for number, line in enumerate(lines[1:], 2):
        if line.get("type") == "header":
            then = f"keep the lines before that, or {AGAIN}"
            _refuse(file, f"holds a second trace from line {number} on, expected one", then)
        with _checking(file, number):
            entry = later_line(line, first)
        if first.format == FIRST_FORMAT and isinstance(entry, Entry):
            order.open(entry.frame)
        if not order.takes(entry):
            wanted = "the next step" if first.format == FIRST_FORMAT else "what comes next"
            _refuse(file, f"goes on elsewhere in line {number}, expected {wanted}", AGAIN)
        read.append(entry)
    if all(isinstance(entry, Segment) for entry in read):
        _refuse(file, "holds no step", AGAIN)
    return read


@dataclass
class _Order:
    """The order of lines: a segment, its steps or tokens counting up, then its commit.

    step: the last one of the open segment, -1 before the first, None where none is open.
    """

    canvas: int = -1
    mode: str = "diffusion"
    step: int | None = None

    def open(self, frame: Frame) -> None:
        """Begin a canvas, whose line the first format did not write, with its first step."""
        if self.step is None and not frame.committed:
            self.canvas, self.step = self.canvas + 1, -1

    def takes(self, line: Line) -> bool:
        """Test that a line may come next, and go on behind it."""
        if isinstance(line, Segment):
            fits = self.step is None and line.canvas == self.canvas + 1
            self.canvas, self.mode, self.step = line.canvas, line.mode, -1
            return fits
        place = line if isinstance(line, Token) else line.frame
        if self.step is None or place.canvas != self.canvas:
            return False
        if isinstance(line, Entry) and line.frame.committed:
            fits, self.step = place.step == self.step >= 0, None
            return fits
        self.step += 1
        return place.step == self.step and isinstance(line, Token) == (self.mode == "ar")


def _recording(first: Header, lines: Sequence[Line]) -> Recording:
    entries = [line for line in lines if isinstance(line, Entry)]
    segments = {line.canvas: line for line in lines if isinstance(line, Segment)}
    written: dict[int, list[Token]] = {}
    for line in lines:
        if isinstance(line, Token):
            written.setdefault(line.canvas, []).append(line)
    parts = {number: _parts(tokens) for number, tokens in written.items()}
    frames = tuple(_frames(lines, segments, written))
    return Recording(
        first.num_steps,
        first.layout,
        frames=frames,
        parts={_key(entry.frame): entry.parts for entry in entries},
        answer=_answer(frames[-1], entries, parts),
        prompt=first.prompt,
        refused=entries[-1].refused if entries else None,
        finished=frames[-1].finish_reason is not None,
        asked=first.asked,
        threshold=first.threshold,
        written=parts,
    )


def _parts(tokens: Sequence[Token]) -> Parts:
    return Parts(tuple(t.piece for t in tokens), "".join(t.role for t in tokens))


def _frames(
    lines: Sequence[Line], segments: Mapping[int, Segment], written: Mapping[int, Sequence[Token]]
) -> Iterator[Frame]:
    """Every frame in order; those of a segment of mode ar share its arrays."""
    ids = {n: np.array([token.token for token in all_], np.int32) for n, all_ in written.items()}
    nats = {n: np.array([t.entropy for t in all_], np.float32) for n, all_ in written.items()}
    for line in lines:
        if isinstance(line, Entry):
            mode = "ar" if line.frame.canvas in written else "diffusion"
            yield line.frame if mode == line.frame.mode else replace(line.frame, mode=mode)
        elif isinstance(line, Token):
            end = line.step + 1
            yield Frame(
                line.canvas,
                line.step,
                ids[line.canvas][:end],
                nats[line.canvas][:end],
                np.ones(end, np.bool_),
                seconds=line.seconds,
                encode_seconds=segments[line.canvas].encode_seconds,
                mode="ar",
                top_probability=line.top_probability,
                strain=line.strain,
            )


def _answer(last: Frame, entries: Sequence[Entry], written: Mapping[int, Parts]) -> str:
    """The answer so far, with the tokens of a segment of mode ar that was interrupted."""
    told = (entry.answer for entry in reversed(entries) if entry.answer is not None)
    answer = next(told, "")
    if last.mode != "ar" or last.committed:
        return answer
    parts = written[last.canvas]
    both = zip(parts.pieces, parts.roles, strict=True)
    return answer + "".join(piece for piece, role in both if role == ANSWER)


def _key(frame: Frame) -> tuple[int, int, bool]:
    return frame.canvas, frame.step, frame.committed


def _refuse(file: Path, what: str, then: str) -> NoReturn:
    raise FileError(f"{file} {what}; {then}.")


def _lines(file: Path, content: bytes) -> Iterator[dict[str, Any]]:
    """Each line's object; the last may lack its line break only if it is whole."""
    for number, line in enumerate(content.splitlines(), 1):
        try:
            value = parse_json(line)
        except ValueError as error:
            unfinished = isinstance(error, json.JSONDecodeError) and content.endswith(line)
            if number > 1 and unfinished:
                _refuse(file, f"is cut off in line {number}", f"remove that line, or {AGAIN}")
            _refuse(file, f"has no JSON in line {number}, expected a trace ({error})", AGAIN)
        if not isinstance(value, dict):
            _refuse(file, f"has no object in line {number}, expected a trace", AGAIN)
        yield value


def _require_trace(file: Path, first: dict[str, Any]) -> None:
    if first.get("type") != "header":
        _refuse(file, "has no header in line 1, expected a trace", AGAIN)
    got = first.get("format", "none")
    if type(got) is not int or not FIRST_FORMAT <= got <= FORMAT:
        version = first.get("version", "an unknown version")
        wanted = f"{FIRST_FORMAT} or {FORMAT}"
        _refuse(file, f"has format {got} (written by {version}), expected {wanted}", AGAIN)


@contextmanager
def _checking(file: Path, number: int) -> Iterator[None]:
    """Turns what reading a line raises into the FileError that says what is wrong in it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is wrong ({error})"
        _refuse(file, f"line {number} {what}", AGAIN)
