"""`--trace FILE`: a generation as JSON lines, written as its steps come.

One header, one line a step, one line a finished canvas; tokens carry their texts, so that `replay`
needs no tokenizer. The file is opened before the model is loaded, so that a bad path is found at
once; its old content goes when the generation begins.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...diffusion.pinned import FillFrame
from ...text.pieces import Parts
from ...version import __version__
from ..errors import FileError, reason
from ..terminal.scene import Reader, turn_reader

if TYPE_CHECKING:
    from ...conversation.turn import Turn
    from ...diffusion.denoise import Frame

FORMAT = 1  # of the lines; another number where an older reader would go wrong


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
        if created and not trace.begun:
            with suppress(OSError):
                file.unlink()


class Trace:
    """An open trace file; FileError when it cannot be opened or written."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.begun = False
        self.turn: Turn | None = None
        self.read: Reader | None = None
        try:
            self.descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._error(error) from error
        self.regular = stat.S_ISREG(os.fstat(self.descriptor).st_mode)

    def check_room(self) -> None:
        """FileError on a full disk: one byte is written and taken back, none to a device."""
        try:
            size = os.fstat(self.descriptor).st_size
            os.write(self.descriptor, b"\n" if self.regular else b"")
            if self.regular:
                os.ftruncate(self.descriptor, size)
        except OSError as error:
            raise self._error(error) from error

    def begin(self, turn: "Turn") -> None:
        """The header."""
        if self.regular:
            os.ftruncate(self.descriptor, 0)
        self.begun = True
        self.turn, self.read = turn, turn_reader(turn)
        session = turn.session
        task = None if turn.raw else session.task
        self._write(
            {
                "type": "header",
                "format": FORMAT,
                "version": __version__,
                "model": asdict(session.info),
                "sampler": asdict(turn.sampler),
                "seed": turn.settings.seed,
                "prompt_tokens": len(turn.prompt_ids),
                "canvas_length": session.model.config.canvas_length,
                "layout": task.layout if task else None,
            }
        )

    def write(self, frame: "Frame") -> None:
        """A step, or a finished canvas."""
        if self.turn is None or self.read is None:
            raise RuntimeError("begin comes before write")
        parts = self.read(frame)
        if frame.committed:
            self._write({**_commit(frame, parts), "answer": self.turn.reply().text})
        else:
            self._write(_step(frame, parts))

    def _write(self, line: Mapping[str, Any]) -> None:
        content = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            while content:  # a disk that fills up takes a part first
                content = content[os.write(self.descriptor, content) :]
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> FileError:
        said = error.strerror or reason(error)
        return FileError(f"the trace cannot be written: {self.file}: {said}.")


def _step(frame: "Frame", parts: Parts) -> dict[str, Any]:
    """A step's line; that of a template also says which positions are pinned."""
    line = {
        "type": "step",
        "canvas": frame.canvas,
        "step": frame.step,
        "temperature": frame.temperature,
        "mean_entropy": frame.mean_entropy,
        "accepted": [int(kept) for kept in frame.accepted],
        "tokens": frame.tokens.tolist(),
        "entropies": frame.entropies.tolist(),
        "seconds": frame.seconds,
        "dense_rows": frame.dense_rows,
        "encode_seconds": frame.encode_seconds,
        "pieces": parts.pieces,
        "roles": parts.roles,
    }
    if isinstance(frame, FillFrame):
        line["pinned"] = [int(pinned) for pinned in frame.pinned]
    return line


def _commit(frame: "Frame", parts: Parts) -> dict[str, Any]:
    """A finished canvas's line; that of a template also says which hole a token belongs to."""
    line = {
        "type": "commit",
        "canvas": frame.canvas,
        "step": frame.step,
        "tokens": frame.tokens.tolist(),
        "text": frame.text,
        "finish_reason": frame.finish_reason,
        "pieces": parts.pieces,
        "roles": parts.roles,
    }
    if isinstance(frame, FillFrame):
        line["holes"] = frame.holes.tolist()
    return line
