"""`replay`: a saved denoising trace, played in the live view or written as SVG or HTML."""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import counted
from .errors import FAILED, ArgumentError, FileError
from .parameters import argument, flattened, option
from .terminal.streams import is_terminal, say

if TYPE_CHECKING:
    from .record.pace import Pace
    from .record.recording import Recording


@dataclass(frozen=True)
class ReplayOptions:
    """The trace to play, and the files to write in place of that."""

    file: Path = argument("FILE", "What `generate --trace FILE` has written.", default=MISSING)
    speed: float | None = option(
        "--speed",
        "2 plays twice as fast; no step is shown for more than 10 seconds. Default: 1.",
        "X",
    )
    pace: float | None = option(
        "--pace",
        "Show each step for so many seconds, 0 to 10, however long it took. Default: as --speed.",
        "SECONDS",
    )
    svg: Path | None = option("--svg", "Write an animated image instead of playing.", "OUT")
    html: Path | None = option("--html", "Write a page with a slider instead.", "OUT")


@flattened()
def command(given: ReplayOptions) -> int:
    """Play a saved denoising trace, or write it as an image or a page that plays it.

    While it plays, space pauses and goes on, the arrow keys step, q ends. Without a terminal only
    the answer is printed. The exit code is 1 for an answer that `generate` refused, which is not
    printed, and for a generation that was interrupted.
    """
    from .record.pace import chosen_pace
    from .record.recording import read_recording
    from .terminal.screen import can_draw

    pace = chosen_pace(given.speed, given.pace)
    _check_places(given)
    recording = read_recording(given.file)
    if given.svg or given.html:
        _write(recording, given, pace)
        return 0
    if is_terminal(sys.stdout) and can_draw(sys.stderr):
        from .record.player import play

        play(recording, pace)
    return _end(recording, given.file)


def _end(recording: "Recording", file: Path) -> int:
    """The answer, as `generate` printed it or refused it; FileError where it is not whole."""
    from .terminal.output import Printer

    if recording.refused is not None:
        say(f"error: {recording.refused}")
        return FAILED
    Printer().finish(recording.answer)
    if not recording.finished:
        raise FileError(
            f"{file} is of an interrupted generation: {counted(recording.committed, 'canvas')} "
            "finished, expected the end of an answer; record it again with `generate --trace`."
        )
    return 0


def _check_places(given: ReplayOptions) -> None:
    """ArgumentError where one file would replace another that is wanted."""
    named = [("FILE", given.file), ("--svg", given.svg), ("--html", given.html)]
    places = [(name, path.resolve()) for name, path in named if path is not None]
    for number, (name, place) in enumerate(places):
        for earlier, other in places[:number]:
            same = place == other or (place.is_file() and other.is_file() and place.samefile(other))
            if same:
                raise ArgumentError(f"{earlier} and {name} are both {place}; give another name.")


def _write(recording: "Recording", given: ReplayOptions, pace: "Pace") -> None:
    from .record.film import make_film, svg
    from .record.outfile import OutFile
    from .record.page import html

    film = make_film(recording, pace)
    title = "Text coming out of noise, step by step"
    wanted = ((given.svg, "the image", svg), (given.html, "the page", html))
    for path, what, make in wanted:
        if path is not None:
            with OutFile(path, what) as out:
                out.write_text(make(film, title))
