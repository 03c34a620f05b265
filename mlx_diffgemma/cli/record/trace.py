"""`--trace FILE`: a generation as JSON lines, written as its steps come.

One header, one line a step, one line a finished canvas; tokens carry their texts, so that `replay`
needs no tokenizer. The file is opened before the model is loaded, so that a bad path is found at
once; its old content goes when the generation begins.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...conversation.turn import Turn
from ...diffusion.denoise import Frame
from ...diffusion.pinned import FillFrame
from ...machine.files import json_bytes
from ...text.pieces import Parts
from ...version import __version__
from ..answer.advice import refusal
from ..terminal.scene import turn_reader
from .outfile import writing

FORMAT = 1  # of the lines; another number where an older reader would go wrong
WHAT = "the trace"  # in errors


@contextmanager
def open_trace(file: Path | None) -> "Iterator[Trace | None]":
    """The trace in `file`, or None without one; an empty file of no generation is removed."""
    if file is None:
        yield None
        return
    created = not file.exists()
    trace = Trace(file)
    try:
        trace.check_room()
        yield trace
    finally:
        os.close(trace.descriptor)
        if created and trace.turn is None:
            with suppress(OSError):
                file.unlink()


class Trace:
    """An open trace file; FileError when it cannot be opened or written."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.turn: Turn | None = None
        with writing(file, WHAT):
            self.descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self.regular = stat.S_ISREG(os.fstat(self.descriptor).st_mode)

    def check_room(self) -> None:
        """FileError on a full disk: one byte is written and taken back, none to a device."""
        with writing(self.file, WHAT):
            size = os.fstat(self.descriptor).st_size
            os.write(self.descriptor, b"\n" if self.regular else b"")
            if self.regular:
                os.ftruncate(self.descriptor, size)

    def begin(self, turn: Turn) -> None:
        """The header."""
        if self.regular:
            os.ftruncate(self.descriptor, 0)
        self.turn, self.read = turn, turn_reader(turn)
        session = turn.session
        self._write(
            {
                "type": "header",
                "format": FORMAT,
                "version": __version__,
                "model": asdict(session.info),
                "sampler": asdict(turn.sampler),
                "seed": turn.settings.seed,
                "prompt": turn.prompt,
                "prompt_tokens": len(turn.prompt_ids),
                "canvas_length": session.model.config.canvas_length,
                "layout": turn.task.layout if turn.task else None,
            }
        )

    def write(self, frame: Frame) -> None:
        """A step, or a finished canvas."""
        if self.turn is None:
            raise RuntimeError("begin comes before write")
        line = _line(frame, self.read(frame))
        if frame.committed:
            line["answer"] = self.turn.reply().text
            line["refused"] = refusal(self.turn)
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        content = json_bytes(line)
        with writing(self.file, WHAT):
            while content:  # a disk that fills up takes a part first
                content = content[os.write(self.descriptor, content) :]


def _line(frame: Frame, parts: Parts) -> dict[str, Any]:
    """A step's line or a finished canvas's.

    For a template a step also says which positions are pinned, a canvas which hole a token is in.
    """
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


def _step(frame: Frame) -> dict[str, Any]:
    return {
        "temperature": frame.temperature,
        "mean_entropy": frame.mean_entropy,
        "accepted": [int(kept) for kept in frame.accepted],
        "tokens": frame.tokens.tolist(),
        "entropies": frame.entropies.tolist(),
        "seconds": frame.seconds,
        "dense_rows": frame.dense_rows,
        "encode_seconds": frame.encode_seconds,
    }


def _commit(frame: Frame) -> dict[str, Any]:
    return {
        "tokens": frame.tokens.tolist(),
        "text": frame.text,
        "finish_reason": frame.finish_reason,
    }
