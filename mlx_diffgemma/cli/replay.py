"""`replay`: a saved denoising trace, played in the live view or written as SVG or HTML."""

import sys
import time
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ArgumentError
from .options import OVERWRITE_HELP
from .parameters import argument, flag, flattened, option
from .terminal.streams import is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .record.outfile import OutFile, Wanted
    from .record.recording import Recording

LONGEST_PAUSE = 1e6  # seconds; there are numbers the system does not take
HOLD_SECONDS = 1.0  # the last step, before the text takes its place


@dataclass(frozen=True)
class ReplayOptions:
    """The trace to play, and the files to write in place of that."""

    file: Path = argument("FILE", "What `generate --trace FILE` has written.", default=MISSING)
    speed: float = option("--speed", "2 plays twice as fast. Default: 1.", "X", default=1.0)
    svg: Path | None = option(
        "--svg", "Write an animated image instead of playing; - is standard output.", "OUT"
    )
    html: Path | None = option(
        "--html", "Write a page with a slider instead; - is standard output.", "OUT"
    )
    overwrite: bool = flag("--overwrite", OVERWRITE_HELP)


@flattened()
def command(given: ReplayOptions) -> int:
    """Play a saved denoising trace, or write it as an image or a page that plays it.

    Without a terminal only the answer is printed.
    """
    from .record.outfile import Taken, open_files
    from .record.recording import read_recording
    from .terminal.output import Printer
    from .terminal.screen import can_draw

    if not 0 < given.speed < 1e6:
        raise ArgumentError(
            f"--speed is {given.speed:g}, expected a number above 0, 1 for real time."
        )
    reads = [Taken("FILE", given.file)]
    with open_files(_wanted(given), reads, overwrite=given.overwrite) as outputs:
        recording = read_recording(given.file)
        if any(outputs):
            _write(recording, given.speed, outputs)
            return 0
    if is_terminal(sys.stdout) and can_draw(sys.stderr):
        _play(recording, given.speed)
    Printer().finish(recording.answer)
    return 0


def _play(recording: "Recording", speed: float) -> None:
    """Every step for as long as it took."""
    from .terminal.live import REDRAWS_PER_SECOND, Live
    from .terminal.screen import Screen

    frames = recording.frames
    with Live(recording.scene(), Screen()) as live:
        for frame, after in zip(frames, [*frames[1:], None], strict=True):
            first = frame.encode_seconds if frame.step == 0 else 0.0
            _pause((first + frame.seconds) / speed)
            live.step(frame)
            if live.pending and (after is None or after.committed):
                time.sleep(1 / REDRAWS_PER_SECOND)
                live.settle()
        _pause(HOLD_SECONDS / speed)


def _pause(seconds: float) -> None:
    time.sleep(min(seconds, LONGEST_PAUSE))


def _drawn(beginning: str, mark: str) -> "Callable[[Path], bool]":
    """The test that a file is an image or a page that `replay` drew."""

    def holds(file: Path) -> bool:
        try:
            with file.open("rb") as content:
                head = content.read(2000)
        except OSError:
            return False
        return head.startswith(beginning.encode()) and mark.encode() in head

    return holds


def _wanted(given: ReplayOptions) -> "list[Wanted | None]":
    from .record.film import PAGE_MARK, SVG_MARK
    from .record.outfile import Kind, Wanted

    named = (
        ("--svg", given.svg, Kind("image", _drawn("<svg ", SVG_MARK))),
        ("--html", given.html, Kind("page", _drawn("<!DOCTYPE html>", PAGE_MARK))),
    )
    return [Wanted(name, file, kind) if file else None for name, file, kind in named]


def _write(recording: "Recording", speed: float, outputs: "Sequence[OutFile | None]") -> None:
    from .record import film as films

    film = films.make_film(recording, speed)
    title = "Text coming out of noise, step by step"
    for out, make in zip(outputs, (films.svg, films.html), strict=True):
        if out:
            out.write(make(film, title))
            out.finish()
