"""A file that `--trace` wrote, read again and checked line by line."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...assets import Layout
from ...diffusion.pinned import TEXT, FillFrame
from ...generation.frame import Frame
from ...machine.files import parse_json, read_bytes
from ...text.pieces import ROLES, Parts
from ..errors import FileError, reason
from ..terminal.scene import Scene
from .trace import FORMAT

MOST_POSITIONS = 1 << 18  # of a canvas, for each of which every step holds numbers
MOST_COUNT = (1 << 31) - 1
AGAIN = "record it again with `generate --trace`"


@dataclass(frozen=True)
class Recording:
    """A generation: its frames in order, and the texts of their tokens.

    prompt: None in traces of versions that kept none. refused: what `generate` said of an
    answer that does not solve its puzzle. finished: the answer has come to its end.
    """

    num_steps: int
    layout: Layout | None
    frames: tuple[Frame, ...]
    parts: Mapping[tuple[int, int, bool], Parts]
    answer: str
    prompt: str | None = None
    refused: str | None = None
    finished: bool = True

    @property
    def committed(self) -> int:
        """The number of finished canvases."""
        return sum(frame.committed for frame in self.frames)

    def read(self, frame: Frame) -> Parts:
        """A frame's texts and roles."""
        return self.parts[_key(frame)]

    def scene(self) -> Scene:
        """The scene before the first frame."""
        return Scene(self.read, self.num_steps, self.layout)


@dataclass(frozen=True)
class _Entry:
    """A line after the header."""

    frame: Frame
    parts: Parts
    answer: str | None = None  # so far, where a canvas is finished
    refused: str | None = None


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
        num_steps, layout, canvas_length = _header(lines[0])
        prompt = _optional_text(lines[0].get("prompt"))
    entries: list[_Entry] = []
    for number, line in enumerate(lines[1:], 2):
        if line.get("type") == "header":
            then = f"keep the lines before that, or {AGAIN}"
            _refuse(file, f"holds a second trace from line {number} on, expected one", then)
        with _checking(file, number):
            entry = _entry(line, canvas_length)
        if not _follows(entry.frame, entries[-1].frame if entries else None):
            _refuse(file, f"goes on elsewhere in line {number}, expected the next step", AGAIN)
        entries.append(entry)
    if not entries:
        _refuse(file, "holds no step", AGAIN)
    return Recording(
        num_steps,
        layout,
        frames=tuple(entry.frame for entry in entries),
        parts={_key(entry.frame): entry.parts for entry in entries},
        answer=next((entry.answer for entry in reversed(entries) if entry.answer is not None), ""),
        prompt=prompt,
        refused=entries[-1].refused,
        finished=entries[-1].frame.finish_reason is not None,
    )


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


def _require_trace(file: Path, header: dict[str, Any]) -> None:
    if header.get("type") != "header":
        _refuse(file, "has no header in line 1, expected a trace", AGAIN)
    if header.get("format") != FORMAT:
        version = header.get("version", "an unknown version")
        got = header.get("format", "none")
        _refuse(file, f"has format {got} (written by {version}), expected {FORMAT}", AGAIN)


def _header(header: dict[str, Any]) -> tuple[int, Layout | None, int]:
    """Steps a canvas at most, layout and canvas length."""
    length = _count(header["canvas_length"], 1, MOST_POSITIONS)
    layout = header["layout"]
    if layout is not None:
        layout = tuple(tuple(_layout_part(part, length) for part in row) for row in layout)
    return _count(header["sampler"]["max_denoising_steps"], 1), layout, length


def _layout_part(part: object, length: int) -> str | int:
    if isinstance(part, str):
        if not part.isprintable():  # it is drawn as it is
            raise ValueError(f"{part!r:.40} cannot be drawn")
        return part
    position = _count(part, 0)
    if position >= length:
        raise ValueError(f"position {position} of {length}")
    return position


def _entry(line: dict[str, Any], canvas_length: int) -> _Entry:
    """A step's or a commit's line; KeyError, TypeError or ValueError where it is neither."""
    if line["type"] not in ("step", "commit"):
        raise ValueError(f"type {line['type']!r:.40} is neither step nor commit")
    committed = line["type"] == "commit"
    tokens = _integers(line["tokens"], 0)
    parts = Parts(tuple(_text(piece) for piece in line["pieces"]), _text(line["roles"]))
    if not len(tokens) == len(parts.pieces) == len(parts.roles) or set(parts.roles) - ROLES:
        raise ValueError("tokens, pieces and roles do not belong together")
    canvas, step = _count(line["canvas"], 0), _count(line["step"], 0)
    nothing = np.zeros(canvas_length, np.float32)
    frame = Frame(canvas, step, tokens, nothing, nothing > 0, committed)
    if committed:
        refused = _optional_text(line.get("refused"))
        return _Entry(_commit(line, frame), parts, _text(line["answer"]), refused)
    return _Entry(_step(line, frame), parts)


def _commit(line: dict[str, Any], frame: Frame) -> Frame:
    """The frame of a finished canvas; for a template also the hole of each token."""
    frame = replace(frame, finish_reason=_optional_text(line["finish_reason"]))
    if "holes" not in line:
        return frame
    holes = _integers(line["holes"], TEXT)
    if len(holes) != len(frame.tokens):
        raise ValueError("tokens and holes do not belong together")
    return _fill_frame(frame, frame.accepted, holes)


def _step(line: dict[str, Any], frame: Frame) -> Frame:
    """The frame of a step; for a template also its pinned positions."""
    canvas_length = len(frame.accepted)
    entropies = np.array([_number(value) for value in line["entropies"]], np.float32)
    accepted = _integers(line["accepted"], 0) > 0
    if not len(frame.tokens) == len(entropies) == len(accepted) == canvas_length:
        raise ValueError("a list is not as long as the canvas")
    frame = replace(
        frame,
        entropies=entropies,
        accepted=accepted,
        seconds=_seconds(line["seconds"]),
        encode_seconds=_seconds(line["encode_seconds"]),
    )
    if "pinned" not in line:
        return frame
    pinned = _integers(line["pinned"], 0) > 0
    if len(pinned) != canvas_length or pinned.all():
        raise ValueError("pinned is not as long as the canvas, or all of it")
    return _fill_frame(frame, pinned, np.where(pinned, TEXT, 0).astype(np.int32))


def _fill_frame(frame: Frame, pinned: NDArray[np.bool_], holes: NDArray[np.int32]) -> FillFrame:
    values = {f.name: getattr(frame, f.name) for f in fields(Frame)}
    return FillFrame(**values, pinned=pinned, holes=holes)


def _follows(frame: Frame, last: Frame | None) -> bool:
    """Test the order: steps count up in a canvas, and a commit repeats the last of them."""
    if last is None or last.committed:
        return _key(frame) == (0 if last is None else last.canvas + 1, 0, False)
    step = last.step if frame.committed else last.step + 1
    return (frame.canvas, frame.step) == (last.canvas, step)


@contextmanager
def _checking(file: Path, number: int) -> Iterator[None]:
    """Turns what reading a line raises into the FileError that says what is wrong in it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is wrong ({error})"
        _refuse(file, f"line {number} {what}", AGAIN)


def _count(value: object, least: int, most: int = MOST_COUNT) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is no whole number from {least} to {most:,}")
    return value


def _integers(values: list[object], least: int) -> NDArray[np.int32]:
    return np.array([_count(value, least) for value in values], np.int32)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"{value!r:.40} is no time in seconds")
    return float(value)


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not abs(value) < 1e30:  # in a float32 it is not finite
        raise ValueError(f"{value!r:.40} is no entropy in nats")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
