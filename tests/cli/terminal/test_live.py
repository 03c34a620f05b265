"""When the live view draws, with a clock and a screen of the test's own."""

from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mlx_diffgemma.cli.terminal.live import Live
from mlx_diffgemma.cli.terminal.picture import Picture, Size
from mlx_diffgemma.cli.terminal.scene import Scene
from mlx_diffgemma.cli.terminal.surface import Below, OtherScreen, Surface
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.text.pieces import Parts

BLANK = Frame(0, 0, np.zeros(4, np.int32), np.zeros(4, np.float32), np.ones(4, np.bool_))


def read(frame: Frame) -> Parts:
    """Every token is its number."""
    tokens = frame.tokens.tolist()
    return Parts(tuple(f"{token} " for token in tokens), "a" * len(tokens))


def step(canvas: int, number: int, *tokens: int, seconds: float = 0.005) -> Frame:
    ids = np.array(tokens or (number,) * 4, np.int32)
    return replace(BLANK, canvas=canvas, step=number, tokens=ids, seconds=seconds)


@dataclass
class Paper:
    """A screen that keeps what is drawn, and may be torn."""

    size: Size = field(default_factory=lambda: Size(40, 10))
    pictures: list[list[str]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    torn: bool = False
    presses: list[int] = field(default_factory=list)  # of `?`, before each step
    listens: bool = True
    surface: Surface = field(default_factory=OtherScreen)
    clock: "Clock | None" = None
    cost: float = 0.0  # seconds to draw

    def enter(self) -> None:
        self.events.append("enter")

    def measure(self) -> Size:
        return self.size

    def pressed(self) -> int:
        return self.presses.pop(0) if self.presses else 0

    def draw(self, picture: Picture) -> None:
        if self.torn:
            raise OSError(5, "Input/output error")
        if self.clock:
            self.clock.now += self.cost
        lines = ["".join(segment.text for segment in line) for line in picture.lines]
        self.pictures.append(lines)

    def leave(self) -> None:
        self.events.append("leave")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(paper: Paper, clock: Clock) -> Live:
    return Live(Scene(read, 60), paper, clock)


def test_sixty_steps_of_5_ms_are_drawn_four_times(live: Live, paper: Paper, clock: Clock) -> None:
    """12 a second: at 0, 85, 170 and 255 ms; a Snapshot is made for no other step."""
    snapshots = 0
    snapshot = live.scene.snapshot

    def counted() -> object:
        nonlocal snapshots
        snapshots += 1
        return snapshot()

    live.scene.snapshot = counted  # type: ignore[method-assign, assignment]
    with live:
        for number in range(60):
            live.step(step(0, number))
            clock.now += 0.005
    assert [lines[0].split()[0] for lines in paper.pictures] == ["0", "17", "34", "51"]
    assert snapshots == 4


def test_the_first_frame_is_drawn_at_once(live: Live, paper: Paper) -> None:
    live.step(step(0, 0))
    assert len(paper.pictures) == 1
    assert paper.events == ["enter"]


def test_slow_steps_are_all_drawn(live: Live, paper: Paper, clock: Clock) -> None:
    for number in range(10):
        live.step(step(number // 5, number % 5))
        clock.now += 0.09
    assert len(paper.pictures) == 10


@pytest.mark.parametrize(("cost", "expected"), [(0.001, 11.8), (0.005, 5), (0.5, 1)])
def test_a_slow_terminal_is_drawn_on_less_often(
    live: Live, paper: Paper, clock: Clock, cost: float, expected: int
) -> None:
    """A fortieth of the time goes into drawing, and no picture is older than a second."""
    paper.clock, paper.cost = clock, cost
    while clock.now < 110:
        live.step(step(0, 0))
        clock.now += 0.005
    drawn = len(paper.pictures) / 10
    assert drawn == pytest.approx(expected, rel=0.02)


def test_before_the_first_frame_the_terminal_is_left_alone(live: Live, paper: Paper) -> None:
    with live:
        assert paper.events == []
    assert paper.pictures == []


def test_the_terminal_is_given_back_after_an_error(live: Live, paper: Paper) -> None:
    with suppress(KeyboardInterrupt), live:
        live.step(step(0, 0))
        raise KeyboardInterrupt
    assert paper.events == ["enter", "leave"]


def test_a_terminal_that_goes_away_ends_the_view_only(
    live: Live, paper: Paper, clock: Clock
) -> None:
    live.step(step(0, 0))
    paper.torn = True
    for number in range(1, 4):
        clock.now += 1
        live.step(step(0, number))
    assert (len(paper.pictures), live.gone) == (1, True)


def test_settle_draws_what_was_left_out(live: Live, paper: Paper, clock: Clock) -> None:
    for number in range(3):
        live.step(step(0, number))
    live.settle()
    live.settle()
    assert [lines[0][0] for lines in paper.pictures] == ["0", "2"]


def test_the_last_step_of_a_canvas_stays_where_pictures_stay(live: Live, paper: Paper) -> None:
    """It came too soon behind another to be drawn."""
    paper.surface = Below()
    for number in range(3):
        live.step(step(0, number))
    live.step(replace(step(0, 2), committed=True))
    assert [lines[0][0] for lines in paper.pictures] == ["0", "2"]


def test_a_finished_canvas_stands_above_the_next(live: Live, paper: Paper, clock: Clock) -> None:
    live.step(step(0, 0, 1, 2, 3, 4))
    live.step(replace(step(0, 0, 1, 2, 3, 4), committed=True))
    clock.now += 1
    live.step(step(1, 0, 5, 6, 7, 8))
    assert paper.pictures[-1][0] == "1 2 3 4 5 6 7 8 "


def test_the_numbers_count_from_the_question(live: Live, paper: Paper, clock: Clock) -> None:
    """Four tokens finished and four accepted, three steps, 0.1 s each and 0.1 s of encoding."""
    paper.size = Size(200, 10)
    live.step(replace(step(0, 0, seconds=0.1), encode_seconds=0.1))
    live.step(step(0, 1, seconds=0.1))
    live.step(replace(step(0, 1), committed=True))
    clock.now += 1
    live.step(step(1, 0, seconds=0.1))
    status = paper.pictures[-1][-1]
    assert status.startswith("canvas 2  step  1 of 60  at most  6 s left  20 tokens/s  accepted")
    assert "accepted   4 of 4  entropy 0.0000 nats  2.7 tokens/step  100 ms/step" in status


def test_a_narrower_window_is_drawn_anew(live: Live, paper: Paper, clock: Clock) -> None:
    live.step(step(0, 0, 1, 2, 3, 4))
    paper.size = Size(4, 10)
    clock.now += 1
    live.step(step(0, 1, 1, 2, 3, 4))
    assert paper.pictures[-1] == ["1 2 ", "3 4 ", "2/60"]


def test_the_status_line_does_not_jump_up(live: Live, paper: Paper, clock: Clock) -> None:
    paper.size = Size(3, 10)
    for number, tokens in enumerate([(1, 2, 3, 4), (11, 22, 33, 44), (1, 2, 3, 4)]):
        live.step(step(0, number, *tokens))
        clock.now += 1
    assert [len(lines) for lines in paper.pictures] == [3, 5, 5]


def test_changed_tokens_are_those_of_this_step(live: Live) -> None:
    scene = live.scene
    for frame, changed in (
        (step(0, 0, 1, 2, 3, 4), [True] * 4),
        (step(0, 1, 1, 9, 3, 9), [False, True, False, True]),
        (step(0, 2, 1, 9, 3, 9), [False] * 4),
        (step(1, 0, 1, 9, 3, 9), [True] * 4),
    ):
        scene.take(frame)
        snapshot = scene.snapshot()
        assert snapshot is not None
        assert snapshot.drawn.changed.tolist() == changed


def test_a_long_text_is_kept_as_far_as_a_screen_shows_it(live: Live) -> None:
    for canvas in range(50):
        live.scene.take(step(canvas, 0, *range(10_000_000, 10_000_200)))
        live.scene.take(replace(step(canvas, 0, *range(10_000_000, 10_000_200)), committed=True))
    assert sum(len(text) for text, _ in live.scene.finished) <= 22_000


# --- token by token


def token(segment: int, number: int, **changes: object) -> Frame:
    """Token `number` of a segment; every token is its number."""
    count = number + 1
    written = replace(
        BLANK,
        canvas=segment,
        step=number,
        tokens=np.arange(count, dtype=np.int32),
        entropies=np.zeros(count, np.float32),
        accepted=np.ones(count, np.bool_),
        seconds=0.005,
        mode="ar",
    )
    return replace(written, **changes)  # type: ignore[arg-type]


def test_tokens_are_drawn_by_time_not_by_count(live: Live, paper: Paper, clock: Clock) -> None:
    for number in range(60):
        live.step(token(0, number))
        clock.now += 0.005
    ends = [" ".join(lines[:-1]).split()[-1] for lines in paper.pictures]
    assert ends == ["0", "17", "34", "51"]


def test_text_grows_behind_finished_segments(live: Live, paper: Paper, clock: Clock) -> None:
    paper.size, live.scene.asked = Size(100, 10), "auto"
    live.step(step(0, 0, 7, 7, 7, 7, seconds=0.01))
    live.step(replace(step(0, 0, 7, 7, 7, 7), committed=True))
    clock.now += 1
    live.step(token(1, 0))
    clock.now += 1
    live.step(token(1, 1))
    assert [lines[0] for lines in paper.pictures] == ["7 7 7 7 ", "7 7 7 7 0 ", "7 7 7 7 0 1 "]
    assert paper.pictures[-1][-1].startswith(
        "auto  ar     6 tokens  300 tokens/s  entropy 0.0000 nats"
    )
    live.step(token(1, 1, committed=True))
    clock.now += 1
    paper.size = Size(200, 10)
    live.step(step(2, 0, 8, 8, 8, 8, seconds=0.01))  # 4 of a canvas and 4 accepted, in 2 steps
    assert " 4.0 tokens/step " in paper.pictures[-1][-1]


def test_the_time_left_is_a_bound_until_the_end_is_near(live: Live, paper: Paper) -> None:
    """59 steps of 0.1 s at most; at 0.05 nats about 3, by the law of a canvas's end."""
    paper.size = Size(200, 10)
    live.scene.threshold = 0.005
    noise = replace(step(0, 0, seconds=1.0), entropies=np.full(4, 9.0, np.float32))
    live.step(noise)
    assert " at most 59 s left " in paper.pictures[-1][-1]
    live.pending = True
    live.scene.take(replace(noise, entropies=np.full(4, 0.05, np.float32)))
    live.settle()
    assert " about  3 s left " in paper.pictures[-1][-1]


def test_the_pace_is_that_of_the_last_steps(live: Live) -> None:
    """The first step of a process compiles; it counts until four others have come."""
    for number, seconds in enumerate((9.0, 1.0, 1.0, 1.0, 1.0)):
        live.scene.take(step(0, number, seconds=seconds))
    numbers = live.scene.numbers()
    assert numbers is not None
    assert str(numbers.left) == "at most 55 s left"


def test_tokens_that_an_answer_may_still_have_bound_its_time(live: Live, paper: Paper) -> None:
    paper.size, live.scene.most, live.scene.asked = Size(200, 10), 100, "ar"
    live.step(token(0, 3, seconds=0.5))
    bounded = "ar     4 of at most 100 tokens  at most 48 s left  8 tokens/s  "
    assert paper.pictures[-1][-1].startswith(bounded)


def test_a_question_mark_shows_the_legend_and_hides_it(live: Live, paper: Paper) -> None:
    """At once, and not with the next drawing that is due."""
    paper.size, paper.presses = Size(80, 10), [0, 1, 2, 1]
    for number in range(4):
        live.step(step(0, number))
    first, with_legend, without = paper.pictures
    assert first[-1].endswith("  ? legend")
    assert with_legend[1].endswith("  ? hides")
    assert "entropy" in with_legend[2]
    assert len(without) == len(first) == 2
