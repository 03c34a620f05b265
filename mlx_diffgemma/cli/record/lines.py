"""The lines of a trace, each checked: a header, segments, steps, tokens and commits.

What is wrong in a line raises KeyError, TypeError or ValueError, which say what.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...assets import Layout
from ...diffusion.pinned import TEXT, FillFrame
from ...generation.frame import Frame
from ...generation.settings import MODES
from ...text.pieces import ROLES, Parts
from .trace import FORMAT

FIRST_FORMAT = 1  # canvases alone, without lines of segments
MOST_POSITIONS = 1 << 18  # of a canvas, for each of which every step holds numbers
MOST_COUNT = (1 << 31) - 1


@dataclass(frozen=True)
class Header:
    """A generation as its first line tells of it.

    prompt: None in traces of versions that kept none; threshold: mean entropy below which a canvas
    may end, None where it is not told; asked: the mode asked for.
    """

    format: int
    canvas_length: int
    num_steps: int
    layout: Layout | None
    prompt: str | None
    threshold: float | None
    asked: str


@dataclass(frozen=True)
class Segment:
    """The line in front of a segment."""

    canvas: int
    mode: str
    encode_seconds: float


@dataclass(frozen=True)
class Token:
    """A token of mode ar, number `step` of its segment."""

    canvas: int
    step: int
    token: int
    entropy: float
    top_probability: float
    seconds: float
    piece: str
    role: str
    strain: float | None = None


@dataclass(frozen=True)
class Entry:
    """A step of a canvas, or what a segment ends with; then the answer so far, and its refusal."""

    frame: Frame
    parts: Parts
    answer: str | None = None
    refused: str | None = None


Line = Segment | Token | Entry


def header(line: Mapping[str, Any]) -> Header:
    """The first line, whose type and format are known to be right."""
    length = _count(line["canvas_length"], 1, MOST_POSITIONS)
    layout, sampler = line["layout"], _object(line["sampler"])
    if layout is not None:
        layout = tuple(tuple(_layout_part(part, length) for part in row) for row in layout)
    num_steps = _count(sampler["max_denoising_steps"], 1)
    threshold = sampler.get("confidence_threshold")
    return Header(
        line["format"],
        length,
        num_steps,
        layout,
        _optional_text(line.get("prompt")),
        None if threshold is None else _number(threshold),
        "diffusion" if line["format"] == FIRST_FORMAT else _one_of(line["mode"], MODES),
    )


def later_line(line: Mapping[str, Any], first: Header) -> Line:
    """A line behind the header."""
    readers = _READERS if first.format == FORMAT else _FIRST_READERS
    kind = line["type"]
    if kind not in readers:
        raise ValueError(f"type {kind!r:.40} is none of {', '.join(readers)}")
    return readers[kind](line, first)


def _layout_part(part: object, length: int) -> str | int:
    if isinstance(part, str):
        if not part.isprintable():  # it is drawn as it is
            raise ValueError(f"{part!r:.40} cannot be drawn")
        return part
    position = _count(part, 0)
    if position >= length:
        raise ValueError(f"position {position} of {length}")
    return position


def _segment(line: Mapping[str, Any], first: Header) -> Segment:
    mode = _one_of(line["mode"], ("diffusion", "ar"))
    return Segment(_count(line["canvas"], 0), mode, _seconds(line["encode_seconds"]))


def _token(line: Mapping[str, Any], first: Header) -> Token:
    return Token(
        _count(line["canvas"], 0),
        _count(line["step"], 0),
        _count(line["token"], 0),
        _number(line["entropy"]),
        _number(line["top_probability"], "probability"),
        _seconds(line["seconds"]),
        _text(line["piece"]),
        _one_of(line["role"], sorted(ROLES)),
        _strain(line),
    )


def _frame_and_parts(line: Mapping[str, Any], first: Header) -> tuple[Frame, Parts]:
    tokens = _integers(line["tokens"], 0)
    parts = Parts(tuple(_text(piece) for piece in line["pieces"]), _text(line["roles"]))
    if not len(tokens) == len(parts.pieces) == len(parts.roles) or set(parts.roles) - ROLES:
        raise ValueError("tokens, pieces and roles do not belong together")
    nothing = np.zeros(first.canvas_length, np.float32)
    place = _count(line["canvas"], 0), _count(line["step"], 0)
    return Frame(*place, tokens, nothing, nothing > 0), parts


def _commit(line: Mapping[str, Any], first: Header) -> Entry:
    """The end of a segment; for a template also the hole of each token."""
    frame, parts = _frame_and_parts(line, first)
    frame = replace(
        frame,
        committed=True,
        finish_reason=_optional_text(line["finish_reason"]),
        settled=_settled(line),
    )
    answer, refused = _text(line["answer"]), _optional_text(line.get("refused"))
    if "holes" in line:
        holes = _integers(line["holes"], TEXT)
        if len(holes) != len(frame.tokens):
            raise ValueError("tokens and holes do not belong together")
        frame = _fill_frame(frame, frame.accepted, holes)
    return Entry(frame, parts, answer, refused)


def _step(line: Mapping[str, Any], first: Header) -> Entry:
    """A step of a canvas; for a template also its pinned positions."""
    frame, parts = _frame_and_parts(line, first)
    entropies = np.array([_number(value) for value in line["entropies"]], np.float32)
    accepted = _integers(line["accepted"], 0) > 0
    if not len(frame.tokens) == len(entropies) == len(accepted) == first.canvas_length:
        raise ValueError("a list is not as long as the canvas")
    frame = replace(
        frame,
        entropies=entropies,
        accepted=accepted,
        seconds=_seconds(line["seconds"]),
        encode_seconds=_seconds(line["encode_seconds"]),
        strain=_strain(line),
    )
    if "pinned" not in line:
        return Entry(frame, parts)
    pinned = _integers(line["pinned"], 0) > 0
    if len(pinned) != first.canvas_length or pinned.all():
        raise ValueError("pinned is not as long as the canvas, or all of it")
    holes = np.where(pinned, TEXT, 0).astype(np.int32)
    return Entry(_fill_frame(frame, pinned, holes), parts)


_Reader = Callable[[Mapping[str, Any], Header], Line]
_FIRST_READERS: Mapping[str, _Reader] = {"step": _step, "commit": _commit}
_READERS: Mapping[str, _Reader] = {"segment": _segment, "token": _token, **_FIRST_READERS}


def _fill_frame(frame: Frame, pinned: NDArray[np.bool_], holes: NDArray[np.int32]) -> FillFrame:
    values = {f.name: getattr(frame, f.name) for f in fields(Frame)}
    return FillFrame(**values, pinned=pinned, holes=holes)


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


def _strain(line: Mapping[str, Any]) -> float | None:
    """The strain of an answer with a form; None in traces from before there were forms."""
    value = line.get("strain")
    return None if value is None else _number(value, "strain in nats")


def _settled(line: Mapping[str, Any]) -> bool | None:
    """True or False of a canvas with a form, else None, as in traces from before them."""
    value = line.get("settled")
    if not isinstance(value, bool | None):
        raise TypeError(f"settled is {value!r:.40}, expected true, false or null")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _number(value: object, name: str = "entropy in nats") -> float:
    if not isinstance(value, int | float) or not abs(value) < 1e30:  # in a float32 it is not finite
        raise ValueError(f"{value!r:.40} is no {name}")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is no object")
    return value


def _one_of(value: object, words: tuple[str, ...] | list[str]) -> str:
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{value!r:.40} is none of {', '.join(words)}")
    return value
