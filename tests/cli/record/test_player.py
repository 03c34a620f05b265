"""A replay and its keys, with a clock, a screen and a keyboard of the test's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pytest

from mlx_diffgemma.cli.record.film import make_film
from mlx_diffgemma.cli.record.pace import LONGEST, Pace
from mlx_diffgemma.cli.record.player import HOLD_SECONDS, Player
from mlx_diffgemma.cli.record.recording import Recording
from mlx_diffgemma.cli.terminal.live import Live
from mlx_diffgemma.cli.terminal.picture import Picture, Size
from mlx_diffgemma.cli.terminal.screen import Screen
from mlx_diffgemma.cli.terminal.surface import OtherScreen, Surface
from mlx_diffgemma.cli.terminal.typed import Typed
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.text.pieces import Parts

BLANK = Frame(0, 0, np.zeros(4, np.int32), np.zeros(4, np.float32), np.ones(4, np.bool_))


def recording(*canvases: int, seconds: float = 0.5) -> Recording:
    """Canvases of so many steps, each step of which shows its number."""
    frames = []
    for canvas, steps in enumerate(canvases):
        shown = [replace(BLANK, canvas=canvas, step=n, seconds=seconds) for n in range(steps)]
        frames += [*shown, replace(shown[-1], committed=True)]
    parts = {
        (f.canvas, f.step, f.committed): Parts((f"{f.canvas}.{f.step}", " ", " ", " "), "aaaa")
        for f in frames
    }
    return Recording(9, None, tuple(frames), parts, "")


@dataclass
class Scenes:
    """A screen that keeps each picture with its time, a clock, and a keyboard with a script."""

    presses: Sequence[tuple[float, str]] = ()  # at which second which key
    now: float = 0.0
    size: Size = field(default_factory=lambda: Size(80, 24))
    sizes: list[Size] = field(default_factory=list)  # of the window, later on
    drawn: list[tuple[float, str, str]] = field(default_factory=list)  # time, step, lowest line
    lowest: list[str] = field(default_factory=list)  # the end of the lowest line
    surface: Surface = field(default_factory=OtherScreen)

    def clock(self) -> float:
        return self.now

    def next(self, seconds: float) -> str | None:
        if self.presses and self.presses[0][0] <= self.now + seconds:
            (at, key), self.presses = self.presses[0], self.presses[1:]
            self.now = max(self.now, at)
            return key
        self.now += seconds
        return None

    def enter(self) -> None:
        pass

    def leave(self) -> None:
        pass

    def measure(self) -> Size:
        if self.sizes:
            self.size = self.sizes.pop(0)
        return self.size

    def draw(self, picture: Picture) -> None:
        lines = ["".join(segment.text for segment in line) for line in picture.lines]
        last = lines[picture.status - 1].split()[-1]
        below = " ".join(lines[picture.status + 1 : picture.status + 2])
        self.lowest.append(" ".join(lines[-1].split()[-2:]).removeprefix("accepted "))
        self.drawn.append((round(self.now, 6), last, below))

    def play(self, recorded: Recording, pace: Pace = Pace()) -> list[tuple[float, str]]:  # noqa: B008
        """Times and steps that were drawn."""
        live = Live(recorded.scene(), cast(Screen, self), self.clock)
        Player(recorded, pace, live, cast(Typed, self), self.clock).run()
        return [(at, step) for at, step, _ in self.drawn]


def test_each_step_stands_as_long_as_it_took() -> None:
    scenes = Scenes()
    assert scenes.play(recording(3)) == [(0.0, "0.0"), (0.5, "0.1"), (1.0, "0.2")]
    assert scenes.now == pytest.approx(1.0 + HOLD_SECONDS)


@pytest.mark.parametrize("speed", [0.01, 0.5, 1.0, 1e4])
def test_no_speed_stretches_the_hold_of_the_last_step(speed: float) -> None:
    """Bug: at --speed 0.01 the last step stood for a hundred seconds."""
    scenes = Scenes()
    shown = scenes.play(recording(3, 2), Pace(speed))
    assert scenes.now - shown[-1][0] == pytest.approx(HOLD_SECONDS)
    assert shown[-1][1] == "1.1"


def test_the_slowest_speed_goes_on() -> None:
    """Bug: a step stood for eleven days at --speed 1e-300."""
    assert Scenes().play(recording(2), Pace(1e-300)) == [(0.0, "0.0"), (LONGEST, "0.1")]


def test_a_pace_is_the_same_for_all_steps() -> None:
    frames = recording(3)
    slower = replace(frames, frames=(replace(frames.frames[0], seconds=7.0), *frames.frames[1:]))
    assert Scenes().play(slower, Pace(step_seconds=0.25)) == [
        (0.0, "0.0"),
        (0.25, "0.1"),
        (0.5, "0.2"),
    ]


def test_the_last_step_of_a_canvas_is_seen_at_any_speed() -> None:
    shown = [step for _, step in Scenes().play(recording(3, 3), Pace(1e5))]
    assert {"0.2", "1.2"} <= set(shown)


def test_space_pauses_and_goes_on() -> None:
    scenes = Scenes([(0.6, " "), (20.0, " ")])
    shown = scenes.play(recording(3))
    assert shown[:2] == [(0.0, "0.0"), (0.5, "0.1")]
    assert shown[-1] == (20.5, "0.2")
    assert {step for at, step in shown if 0.5 <= at <= 20} == {"0.1"}


def test_arrows_step_and_pause() -> None:
    presses = [(0.1, "right"), (5.0, "right"), (6.0, "left"), (7.0, "left"), (8.0, "left")]
    scenes = Scenes([*presses, (9.0, "q")])
    shown = scenes.play(recording(2, 2))
    assert shown == [
        (0.0, "0.0"),
        (0.1, "0.1"),
        (5.0, "1.0"),
        (6.0, "0.1"),
        (7.0, "0.0"),
        (8.0, "0.0"),
    ]
    assert scenes.now == 9.0


def test_a_step_back_shows_what_had_changed_then() -> None:
    """Steps back are drawn as they were, underlines and speed included."""
    forth, back = Scenes([(0.1, " "), (9.0, "q")]), Scenes([(0.1, "right"), (0.2, "left")])
    forth.play(recording(3))
    back.presses = [*back.presses, (9.0, "q")]
    back.play(recording(3))
    assert back.drawn[-1][1:] == forth.drawn[-1][1:]


@pytest.mark.parametrize("key", ["q", "escape"])
def test_q_and_escape_end(key: str) -> None:
    scenes = Scenes([(0.2, "x"), (0.3, key)])
    assert scenes.play(recording(9)) == [(0.0, "0.0")]
    assert scenes.now == 0.3


def test_a_question_mark_explains_and_takes_that_back() -> None:
    scenes = Scenes([(0.1, "?"), (0.2, "?"), (0.3, "q")])
    scenes.play(recording(3))
    assert [at for at, *_ in scenes.drawn] == [0.0, 0.1, 0.2]
    assert scenes.lowest == ["changed", "finished text", "changed"]


def test_a_line_says_which_keys_do_something() -> None:
    scenes = Scenes([(0.1, " "), (1.0, "q")])
    scenes.play(recording(3))
    assert scenes.drawn[0][2] == "space pause  ←→ step  ? legend  q end"
    assert scenes.drawn[-1][2] == "space play  ←→ step  ? legend  q end  paused at 1 of 3"


def test_a_window_that_changes_while_paused_is_drawn_anew() -> None:
    scenes = Scenes([(0.1, " "), (5.0, "q")])
    scenes.sizes = [Size(80, 24)] * 8 + [Size(50, 24)]
    drawn = scenes.play(recording(3))
    assert drawn[-1][0] > 0.5
    assert len(drawn) == 3


def written(*segments: int, seconds: float = 0.5) -> Recording:
    """Segments of so many tokens of mode ar, each of which shows its number."""
    frames, parts, pieces = list[Frame](), {}, {}
    for segment, count in enumerate(segments):
        texts = tuple(f"{segment}.{n} " for n in range(count))
        pieces[segment] = Parts(texts, "a" * count)
        blank = replace(BLANK, canvas=segment, seconds=seconds, mode="ar")
        for n in range(count):
            arrays = (np.zeros(n + 1, dtype) for dtype in (np.int32, np.float32, np.bool_))
            tokens, entropies, accepted = arrays
            frames.append(
                replace(blank, step=n, tokens=tokens, entropies=entropies, accepted=accepted)
            )
        frames.append(replace(frames[-1], committed=True))
        parts[segment, count - 1, True] = pieces[segment]
    return Recording(9, None, tuple(frames), parts, "", asked="ar", written=pieces)


def test_tokens_come_at_their_times() -> None:
    shown = Scenes().play(written(2, 1))
    assert shown == [(0.0, "0.0"), (0.5, "0.1"), (1.0, "1.0")]


def test_the_end_of_a_segment_takes_no_time_of_its_own() -> None:
    """At any speed the end of a canvas is seen; tokens go on."""
    scenes = Scenes()
    scenes.play(written(64, 64, 64, seconds=0.001))
    assert scenes.now == pytest.approx(0.191 + HOLD_SECONDS)


def test_arrows_step_by_tokens() -> None:
    scenes = Scenes([(0.1, "right"), (5.0, "right"), (6.0, "left"), (9.0, "q")])
    shown = scenes.play(written(2, 2))
    assert shown == [(0.0, "0.0"), (0.1, "0.1"), (5.0, "1.0"), (6.0, "0.1")]


def test_pictures_of_tokens_keep_their_time() -> None:
    """Bug: each of 192 tokens of a millisecond stood for a twelfth of a second."""
    film = make_film(written(64, 64, 64, seconds=0.001), Pace())
    assert film.starts == pytest.approx((0.0, 1 / 12, 2 / 12, 3 / 12), abs=0.002)
    assert "2.63" in "".join(segment.text for line in film.pictures[-1].lines for segment in line)
    gaps = [b - a for a, b in zip(film.starts, film.starts[1:], strict=False)]
    assert min(gaps) >= 1 / 12 - 1e-9
    slow = make_film(written(3), Pace(step_seconds=0.5))
    assert slow.starts == (0.0, 0.5, 1.0)
