"""The live view as text at fixed sizes."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment

from mlx_diffgemma.assets.sudoku import SudokuTask
from mlx_diffgemma.cli.terminal.legend import explained, legend
from mlx_diffgemma.cli.terminal.picture import (
    FAINT,
    Size,
    Snapshot,
    line_cells,
    render,
    token_styles,
)
from mlx_diffgemma.cli.terminal.status import Left, Numbers, Written, status_line, steps_to_go
from mlx_diffgemma.conversation.scene import Run, drawn
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.text.pieces import Parts

NUMBERS = Numbers(
    canvas=1,
    step=2,
    num_steps=48,
    accepted=58,
    num_denoised=256,
    mean_entropy=0.1456,
    step_seconds=0.312,
    tokens_per_step=12.91,
    tokens_per_second=41.3,
    memory_bytes=15_240_000_000,
    left=Left(13.2),
)
LAYOUT = SudokuTask().layout
GRID = """\
┌───────┬───────┬───────┐
│ 5 3 4 │ 6 7 8 │ 9 1 2 │
│ 6 7 2 │ 1 9 5 │ 3 4 8 │
│ 1 9 8 │ 3 4 2 │ 5 6 7 │
├───────┼───────┼───────┤
│ 8 5 9 │ 7 6 1 │ 4 2 3 │
│ 4 2 6 │ 8 5 3 │ 7 9 1 │
│ 7 1 3 │ 9 2 4 │ 8 5 6 │
├───────┼───────┼───────┤
│ 9 6 1 │ 5 3 7 │ 2 8 4 │
│ 2 8 7 │ 4 1 9 │ 6 3 5 │
│ 3 4 5 │ 2 8 6 │ 1 7 9 │
└───────┴───────┴───────┘
"""
SOLUTION = (
    "534678912\n672195348\n198342567\n859761423\n426853791\n713924856\n961537284\n287419635\n"
    "345286179"
)


def snapshot(
    *pieces: str, roles: str = "", finished: tuple[Run, ...] = (), **fields: object
) -> Snapshot:
    """A canvas of these tokens, certain and settled."""
    count = len(pieces)
    changed = fields.pop("changed", None)
    told = {name: fields.pop(name) for name in ("entropies", "accepted") if name in fields}
    mode = "ar" if fields.get("written") else "diffusion"
    still = Frame(
        0, 2, np.arange(count), np.zeros(count, np.float32), np.ones(count, np.bool_), mode=mode
    )
    frame = replace(still, **told)  # type: ignore[arg-type]
    now = drawn(frame, Parts(pieces, roles or "a" * count), changed)  # type: ignore[arg-type]
    return replace(Snapshot(now, finished, NUMBERS), **fields)  # type: ignore[arg-type]


def text(picture: object, columns: int) -> str:
    """What a terminal of so many columns would show, without its status line."""
    out = io.StringIO()
    Console(width=columns, file=out, color_system=None).print(picture, end="")
    return "\n".join(out.getvalue().splitlines()[:-1]) + "\n"


def shown(view: Snapshot, columns: int, rows: int = 24) -> list[str]:
    return text(render(view, Size(columns, rows)), columns).splitlines()


WORDS = ("The", " sky", " is", " blue", ",", " and", "\n", "空は", "青い", " tab\there", "😀")


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (80, ["The sky is blue, and", "空は青い tab    here😀"]),
        (40, ["The sky is blue, and", "空は青い tab    here😀"]),
        (20, ["The sky is blue, and", "空は青い tab    ", "here😀"]),
        (8, ["The sky ", "is blue,", "and", "空は青い", "tab    ", "here😀"]),
    ],
)
def test_a_canvas_is_wrapped_text(columns: int, lines: list[str]) -> None:
    assert shown(snapshot(*WORDS), columns) == lines


def test_finished_text_and_canvas_are_one_text() -> None:
    view = snapshot("lo", " you", finished=(("thought\n", "t"), ("One.\nHel", "")))
    assert shown(view, 20) == ["thought", "One.", "Hello you"]


def test_control_tokens_are_dots_and_what_is_behind_the_end_stays() -> None:
    view = snapshot("Hi", "", "no", "", roles="acbc")
    assert shown(view, 20) == ["Hi·no·"]


@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("columns", [1, 2, 7, 20, 40, 200])
def test_nothing_is_larger_than_the_screen(rows: int, columns: int) -> None:
    finished = (("Long ago, " * 30, ""),)
    for layout in (None, LAYOUT):
        view = snapshot(*(WORDS * 9)[:90], finished=finished, layout=layout)
        for below in ((), (legend(), legend())):
            picture = render(view, Size(columns, rows, floor=rows + 3), below)
            assert len(picture.lines) == rows
            for line in picture.lines:
                assert cell_len("".join(segment.text for segment in line)) <= columns


def test_a_tall_canvas_shows_the_place_where_something_happens() -> None:
    pieces = [f"{n}\n" for n in range(100)]
    changed = np.zeros(100, np.bool_)
    changed[40] = True
    view = snapshot(*pieces, finished=(("before\n" * 50, ""),))
    for fields in ({"changed": changed}, {"accepted": ~changed}):
        moving = replace(view, drawn=replace(view.drawn, **fields))
        assert shown(moving, 20, 6) == ["39", "40", "41", "42", "43"]
    assert shown(view, 20, 6) == ["before", "0", "1", "2", "3"]


def test_a_short_canvas_leaves_room_for_what_stands_above() -> None:
    view = snapshot("new", finished=(("".join(f"{n}\n" for n in range(50)), ""),))
    assert shown(view, 20, 6) == ["46", "47", "48", "49", "new"]


def test_the_status_line_stands_no_higher_than_before() -> None:
    assert shown(snapshot("a"), 20) == ["a"]
    assert text(render(snapshot("a"), Size(20, 24, floor=3)), 20) == "a\n\n\n"


def test_lines_below_leave_the_canvas_its_room() -> None:
    """The first of them stays longest; a grid is not given up for them, nor a line cut."""
    below = ((Segment("one"),), (Segment("second"),))

    def lines_below(view: Snapshot, rows: int, columns: int = 40) -> list[str]:
        picture = render(view, Size(columns, rows), below)
        return ["".join(s.text for s in line) for line in picture.lines[picture.status + 1 :]]

    grid = snapshot(*SOLUTION, "", roles="a" * 89 + "c", layout=LAYOUT)
    for rows, shown_below in ((16, ["one", "second"]), (15, ["one"]), (14, [])):
        assert lines_below(grid, rows) == shown_below
    text = snapshot("a\n" * 20)
    for rows, shown_below in ((6, ["one", "second"]), (5, ["one"]), (4, [])):
        assert lines_below(text, rows) == shown_below
    assert lines_below(text, 6, columns=5) == ["one"]


def test_a_sudoku_is_a_grid() -> None:
    view = snapshot(*SOLUTION, "", roles="a" * 89 + "c", layout=LAYOUT)
    assert "\n".join(shown(view, 80)) + "\n" == GRID
    assert shown(view, 24) == [*SOLUTION.splitlines()[:-1], "345286179·"]
    assert len(shown(view, 80, 13)) == 9  # no room for the grid and the status line


def test_a_cell_that_is_no_single_character_is_a_dot() -> None:
    pieces = ["12", "空", "\n", "", "\x1b", *SOLUTION[5:], ""]
    assert shown(snapshot(*pieces, layout=LAYOUT), 80)[1] == "│ · · · │ · · 8 │ 9 1 2 │"


def test_styles_say_what_is_certain_accepted_changed_and_thought() -> None:
    view = snapshot(
        *"abcde",
        roles="aaatb",
        entropies=np.array([0.0, 0.5, 9.0, 0.0, 0.0], np.float32),
        accepted=np.array([True, True, False, True, True]),
        changed=np.array([False, True, True, False, False]),
    )
    sure, middling, noise, thought, behind = token_styles(view.drawn)
    assert len({sure.color, middling.color, noise.color}) == 3
    assert [s.bold for s in (sure, middling, noise)] == [True, True, None]
    assert [s.underline for s in (sure, middling, noise)] == [None, True, True]
    assert (thought.dim, thought.color) == (True, sure.color)
    assert behind == FAINT


# --- the status line


def test_words_come_before_numbers() -> None:
    """Bug: in eighty columns there were eight numbers with "acc" and "tok/s", in forty five."""
    assert status_line(NUMBERS, 200) == (
        "canvas 2  step  3 of 48  at most 14 s left  41 tokens/s  accepted  58 of 256  "
        "entropy 0.1456 nats  12.9 tokens/step  312 ms/step  15.24 GB"
    )
    wide = "canvas 2  step  3 of 48  at most 14 s left  41 tokens/s"
    assert status_line(NUMBERS, 80) == f"{wide}  accepted  58 of 256"
    assert status_line(NUMBERS, 80, "? legend") == f"{wide}  ? legend"
    assert status_line(NUMBERS, 40, "? legend") == "canvas 2 step  3 of 48 at most 14 s left"
    assert status_line(NUMBERS, 20) == "step 3 of 48"
    assert status_line(NUMBERS, 4) == "3/48"


def test_the_strain_of_a_form_comes_before_other_numbers() -> None:
    held, written = replace(NUMBERS, strain=0.04), replace(WRITTEN, strain=545.0)
    assert "41 tokens/s  strain 0.0  ? legend" in status_line(held, 80, "? legend")
    assert "83 tokens/s  strain 545.0  entropy 0.0123 nats" in status_line(written, 200)


@pytest.mark.parametrize("width", range(150))
def test_the_numbers_fit(width: int) -> None:
    for hint in ("", "? legend"):
        assert len(status_line(NUMBERS, width, hint)) <= width


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (Left(0.2), "under 1 s left"),
        (Left(3.1), "at most  4 s left"),
        (Left(120), "at most 120 s left"),
        (Left(2.5, at_most=False), "about  3 s left"),
    ],
)
def test_time_left_is_rounded_up(left: Left, words: str) -> None:
    assert str(left) == words


@pytest.mark.parametrize("columns", [80, 40, 36])
def test_the_legend_in_words_is_as_wide_as_the_window(columns: int) -> None:
    for modes in (["diffusion"], ["ar"], ["auto"]):
        lines = explained(columns, modes)
        assert max(map(line_cells, lines)) <= columns
        text = " ".join(segment.text for line in lines for segment in line)
        assert ("underlined" in text) == (modes != ["ar"])
    assert len(explained(80, ["diffusion"])) == 3


# --- token by token


def test_written_text_has_the_colour_of_its_entropy_alone() -> None:
    """It is neither accepted nor changed: no token comes again."""
    view = snapshot("a", "b", entropies=np.array([0.0, 9.0], np.float32), written=True)
    sure, noise = token_styles(view.drawn)
    assert (sure.bold, sure.underline, noise.bold, noise.underline) == (None,) * 4
    assert len({sure.color, noise.color}) == 2


def test_written_text_shows_its_end() -> None:
    pieces = [f"{n}\n" for n in range(50)]
    assert shown(snapshot(*pieces, written=True), 20, 6) == ["45", "46", "47", "48", "49"]


def test_the_legend_without_canvases_has_no_accepted() -> None:
    whole, short = ("".join(s.text for s in legend(each)) for each in (True, False))
    assert whole.startswith(short)
    assert not {"accepted", "changed"} & set(short.split())


WRITTEN = Written(tokens=57, entropy=0.0123, tokens_per_second=83.4, memory_bytes=15_240_000_000)


def test_the_status_of_mode_ar() -> None:
    line = "ar    57 tokens  83 tokens/s  entropy 0.0123 nats  15.24 GB"
    assert status_line(WRITTEN, 80) == line
    assert status_line(replace(WRITTEN, asked="auto"), 80) == f"auto  {line}"
    assert [status_line(WRITTEN, width) for width in (9, 2, 1)] == ["57 tokens", "57", "5"]
    bounded = replace(WRITTEN, most=1024, left=Left(12))
    assert status_line(bounded, 80, "? legend") == (
        "ar    57 of at most 1024 tokens  at most 12 s left  83 tokens/s  ? legend"
    )
    assert status_line(bounded, 40) == "ar    57 of at most 1024 tokens"


@pytest.mark.parametrize("width", range(70))
def test_the_numbers_of_mode_ar_fit(width: int) -> None:
    assert len(status_line(WRITTEN, width)) <= width


def test_mode_auto_is_named_before_a_canvas() -> None:
    assert status_line(replace(NUMBERS, asked="auto"), 200).startswith("auto  canvas 2  step")


@pytest.mark.parametrize(
    ("nats", "steps"),
    [(0.2, None), (0.1, None), (0.0999, 4), (0.05, 3), (0.02, 2), (0.0051, 1), (0.005, None)],
)
def test_steps_to_go(nats: float, steps: int | None) -> None:
    """1.4 ln(H / 0.005), where H is small enough for that; not once a canvas may end."""
    assert steps_to_go(nats, 0.005) == steps
