"""`replay`: a saved denoising trace, played in the live view or written as SVG or HTML."""

import sys
import time
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ArgumentError
from .parameters import argument, flattened, option
from .terminal.streams import is_terminal

if TYPE_CHECKING:
    from .record.recording import Recording

LONGEST_PAUSE = 1e6  # seconds; there are numbers the system does not take
HOLD_SECONDS = 1.0  # the last step, before the text takes its place


@dataclass(frozen=True)
class ReplayOptions:
    """The trace to play, and the files to write in place of that."""

    file: Path = argument("FILE", "What `generate --trace FILE` has written.", default=MISSING)
    speed: float = option("--speed", "2 plays twice as fast. Default: 1.", "X", default=1.0)
    svg: Path | None = option("--svg", "Write an animated image instead of playing.", "OUT")
    html: Path | None = option("--html", "Write a page with a slider instead.", "OUT")


@flattened()
def command(given: ReplayOptions) -> int:
    """Play a saved denoising trace, or write it as an image or a page that plays it.

    Without a terminal only the answer is printed.
    """
    from .record.recording import read_recording
    from .terminal.output import Printer
    from .terminal.screen import can_draw

    if not 0 < given.speed < 1e6:
        raise ArgumentError(
            f"--speed is {given.speed:g}, expected a number above 0, 1 for real time."
        )
    _check_places(given)
    recording = read_recording(given.file)
    if given.svg or given.html:
        _write(recording, given)
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


def _check_places(given: ReplayOptions) -> None:
    """ArgumentError where one file would replace another that is wanted."""
    named = [("FILE", given.file), ("--svg", given.svg), ("--html", given.html)]
    places = [(name, path.resolve()) for name, path in named if path is not None]
    for number, (name, place) in enumerate(places):
        for earlier, other in places[:number]:
            same = place == other or (place.is_file() and other.is_file() and place.samefile(other))
            if same:
                raise ArgumentError(f"{earlier} and {name} are both {place}; give another name.")


def _write(recording: "Recording", given: ReplayOptions) -> None:
    from .record import film as films
    from .record.outfile import OutFile

    film = films.make_film(recording, given.speed)
    title = "Text coming out of noise, step by step"
    wanted = ((given.svg, "the image", films.svg), (given.html, "the page", films.html))
    for path, what, make in wanted:
        if path is not None:
            with OutFile(path, what) as out:
                out.write_text(make(film, title))
