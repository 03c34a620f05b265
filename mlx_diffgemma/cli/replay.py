"""`replay`: a saved trace, played in the live view or written as SVG or HTML."""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import FAILED, FileError
from .options import OVERWRITE_HELP, ViewOptions
from .parameters import argument, flag, flattened, option
from .terminal.streams import can_draw, is_terminal, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .record.outfile import OutFile, Wanted
    from .record.pace import Pace
    from .record.recording import Recording


TITLES = {
    (True, False): "Text coming out of noise, step by step",
    (False, True): "Text written token by token",
    (True, True): "Text coming out of noise, then written token by token",
}
"""Of a picture, by whether it shows canvases, and tokens of mode ar."""


@dataclass(frozen=True)
class ReplayOptions:
    """The trace to play, and the files to write in place of that."""

    file: Path = argument("FILE", "What `generate --trace FILE` has written.", default=MISSING)
    speed: float | None = option(
        "--speed",
        "2 plays twice as fast; no step or token is shown for more than 10 seconds. Default: 1.",
        "X",
    )
    pace: float | None = option(
        "--pace",
        "Show each step or token for so many seconds, 0 to 10, however long it took. Default: as "
        "--speed.",
        "SECONDS",
    )
    svg: Path | None = option(
        "--svg", "Write an animated image instead of playing; - is standard output.", "OUT"
    )
    html: Path | None = option(
        "--html", "Write a page with a slider instead; - is standard output.", "OUT"
    )
    overwrite: bool = flag("--overwrite", OVERWRITE_HELP)


@flattened()
def command(given: ReplayOptions, look: ViewOptions) -> int:
    """Play a saved trace, or write it as an image or a page that plays it.

    While it plays, space pauses and goes on, the arrow keys step, ? explains, q ends. Without a
    terminal only the answer is printed. The exit code is 1 for an answer that `generate` refused,
    which is not printed, and for a generation that was interrupted.
    """
    from .record.outfile import Taken, open_files
    from .record.pace import chosen_pace
    from .record.recording import read_recording

    pace = chosen_pace(given.speed, given.pace)
    reads = [Taken("FILE", given.file)]
    with open_files(_wanted(given), reads, overwrite=given.overwrite) as outputs:
        recording = read_recording(given.file)
        if any(outputs):
            _write(recording, pace, outputs)
            return 0
    if is_terminal(sys.stdout) and can_draw(sys.stderr):
        from .record.player import play

        play(recording, pace, look)
    return _end(recording, given.file)


def _end(recording: "Recording", file: Path) -> int:
    """The answer, as `generate` printed it or refused it; FileError where it is not whole."""
    from .answer.advice import kept_words
    from .terminal.output import Printer

    if recording.refused is not None:
        say(f"error: {recording.refused}")
        return FAILED
    Printer().finish(recording.answer)
    if not recording.finished:
        there = kept_words(recording.kept, recording.asked, none="0")
        raise FileError(
            f"{file} is of an interrupted generation: {there}, expected the end of an answer; "
            "record it again with `generate --trace`."
        )
    return 0


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


def _write(recording: "Recording", pace: "Pace", outputs: "Sequence[OutFile | None]") -> None:
    from .record.film import make_film, svg
    from .record.page import html

    film = make_film(recording, pace)
    title = TITLES["diffusion" in recording.modes, "ar" in recording.modes]
    for out, make in zip(outputs, (svg, html), strict=True):
        if out:
            out.write(make(film, title).encode())
            out.finish()
