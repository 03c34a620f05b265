"""`--trace FILE`: a generation as JSON lines, written as its steps come.

One header; for each segment a line with its mode, then one a step or, in mode ar, one a token, and
one for what it ends with. Tokens carry their texts, so that `replay` needs no tokenizer. The place
is checked before the model is loaded. However the generation ends, the steps and tokens that were
finished take the place of an earlier trace.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...conversation.parts import turn_reader
from ...conversation.turn import Turn
from ...diffusion.pinned import FillFrame
from ...generation.frame import Frame
from ...machine.files import parse_json
from ...text.pieces import Parts
from ...version import __version__
from ..answer.advice import refusal
from ..options import OutputOptions
from .outfile import STDOUT, Kind, OutFile, Taken, Wanted, open_files

FORMAT = 2  # of the lines; another number where an older reader would go wrong


def _is_trace(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            header = parse_json(content.readline(LONGEST_HEADER))
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and header.get("type") == "header" and "format" in header


LONGEST_HEADER = 1 << 20  # bytes
TRACE = Kind("trace", _is_trace)


@contextmanager
def open_trace(output: OutputOptions, taken: Iterable[Taken]) -> "Iterator[Trace | None]":
    """The trace that is wanted, or None; a generation that never began leaves the file alone."""
    wanted = Wanted("--trace", output.trace, TRACE) if output.trace else None
    if output.as_json:
        taken = [*taken, Taken("--json", STDOUT)]
    with open_files([wanted], taken, overwrite=output.overwrite) as (file,):
        trace = Trace(file) if file else None
        try:
            yield trace
        finally:
            if trace and trace.turn is not None:
                trace.file.finish()


class Trace:
    """A trace on its way into a file; FileError where that cannot be written."""

    def __init__(self, file: OutFile) -> None:
        self.file = file
        self.turn: Turn | None = None
        self.segments = 0  # whose lines have been written

    def begin(self, turn: Turn) -> None:
        """The header; whoever traces a turn looks at the entropies of its tokens."""
        self.turn, self.read = turn, turn_reader(turn)
        turn.watched = True
        session = turn.session
        self._write_line(
            {
                "type": "header",
                "format": FORMAT,
                "version": __version__,
                "model": asdict(session.info),
                "adapter": session.adapter,
                "mode": turn.settings.mode,
                "sampler": asdict(turn.sampler),
                "seed": turn.settings.seed,
                "prompt": turn.prompt or turn.puzzle or "",  # as read, where it is a picture
                "prompt_tokens": len(turn.prompt_ids),
                "images": [asdict(image) for image in turn.images],
                "videos": [asdict(video) for video in turn.videos],
                "canvas_length": session.model.config.canvas_length,
                "layout": turn.task.layout if turn.task else None,
            }
        )

    def write(self, frame: Frame) -> None:
        """A step, a token, or what a segment ends with; in front of its first the segment's."""
        if self.turn is None:
            raise RuntimeError("begin comes before write")
        if frame.canvas == self.segments:
            self.segments += 1
            self._write_line(_segment(frame, self.turn))
        line = _line(frame, self.read(frame))
        if frame.committed:
            line["answer"] = self.turn.reply().text
            line["refused"] = refusal(self.turn)
        self._write_line(line)

    def _write_line(self, line: dict[str, Any]) -> None:
        self.file.write_line(_finite(line))


def _finite(value: Any) -> Any:
    """A value as JSON can hold it: a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _segment(frame: Frame, turn: Turn) -> dict[str, Any]:
    """The line in front of a segment; in mode auto with its decision, and the times that made it.

    Both are as `--json` has them.
    """
    times = asdict(router) if (router := turn.router_info) else None
    decisions = times.pop("decisions") if times else None
    return {
        "type": "segment",
        "canvas": frame.canvas,
        "mode": frame.mode,
        "decision": decisions[frame.canvas] if decisions else None,
        "router": times,
        "encode_seconds": frame.encode_seconds,
    }


def _line(frame: Frame, parts: Parts) -> dict[str, Any]:
    """A step's or a token's line, or the one that a segment ends with.

    For a template a step also says which positions are pinned, a canvas which hole a token is in.
    """
    if frame.mode == "ar" and not frame.committed:
        return _token(frame, parts)
    line = {
        "type": "commit" if frame.committed else "step",
        "canvas": frame.canvas,
        "step": frame.step,
        **(_commit(frame) if frame.committed else _step(frame)),
        "pieces": parts.pieces,
        "roles": parts.roles,
    }
    if isinstance(frame, FillFrame) and frame.committed:
        line["holes"] = frame.holes.tolist()
    elif isinstance(frame, FillFrame):
        line["pinned"] = [int(pinned) for pinned in frame.pinned]
    return line


def _token(frame: Frame, parts: Parts) -> dict[str, Any]:
    """The last token that was written."""
    return {
        "type": "token",
        "canvas": frame.canvas,
        "step": frame.step,
        "token": int(frame.tokens[-1]),
        "entropy": float(frame.entropies[-1]),
        "top_probability": frame.top_probability,
        "strain": frame.strain,
        "seconds": frame.seconds,
        "piece": parts.pieces[-1],
        "role": parts.roles[-1],
    }


def _step(frame: Frame) -> dict[str, Any]:
    return {
        "temperature": frame.temperature,
        "mean_entropy": frame.mean_entropy,
        "strain": frame.strain,
        "accepted": [int(kept) for kept in frame.accepted],
        "tokens": frame.tokens.tolist(),
        "entropies": frame.entropies.tolist(),
        "seconds": frame.seconds,
        "caller_seconds": frame.caller_seconds,
        "second_tier_rows": frame.second_tier_rows,
        "dense_rows": frame.dense_rows,
        "encode_seconds": frame.encode_seconds,
    }


def _commit(frame: Frame) -> dict[str, Any]:
    return {
        "tokens": frame.tokens.tolist(),
        "text": frame.text,
        "settled": frame.settled,
        "finish_reason": frame.finish_reason,
    }
