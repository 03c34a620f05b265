"""A line a step, rendered without a terminal."""

from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from mlx_diffgemma.cli.terminal.steps import cut, printable, render
from mlx_diffgemma.generation.frame import Frame

FRAME = Frame(
    canvas=1,
    step=2,
    tokens=np.zeros(90, np.int32),
    entropies=np.full(90, 0.0123, np.float32),
    accepted=np.arange(90) < 80,
    text="Why\nthe \x1b[31msky 空は青い is blue",
)


def test_a_step_is_one_line() -> None:
    line = render(FRAME, 48, 200)
    assert line == (
        "canvas 2 step  3/48  accepted  80 of 90  entropy 0.0123 nats"
        "  | Why the  [31msky 空は青い is blue"
    )


@pytest.mark.parametrize("width", [0, 1, 20, 62, 76, 81, 82, 83, 84, 100])
def test_a_line_fits_its_width(width: int) -> None:
    line = render(FRAME, 48, width)
    assert cell_len(line) <= width
    assert cell_len(line) >= min(width - 1, cell_len(render(FRAME, 48, 1000)))


def test_wide_characters_are_not_halved() -> None:
    assert [cut("空は", width) for width in range(5)] == ["", "", "空", "空", "空は"]


def test_nothing_printed_can_move_the_cursor() -> None:
    assert printable("a\tb\r\n\x1b]0;t\x07\u2028\u202ec") == "a b   ]0;t   c"


def test_a_token_is_one_line_with_the_end_of_its_segment() -> None:
    token = replace(FRAME, mode="ar", top_probability=0.875, text="Once there was")
    numbers = "segment 2 token   3  entropy 0.0123 nats  probability 0.875  | "
    assert render(token, 48, 200) == f"{numbers}Once there was"
    assert render(token, 48, len(numbers) + 4) == f"{numbers} was"
    assert [len(render(token, 48, width)) for width in (0, 1, 30)] == [0, 1, 30]


def test_the_strain_of_a_form_stands_behind_the_numbers() -> None:
    held = replace(FRAME, strain=12.34)
    assert "entropy 0.0123 nats  strain 12.3 nats  | Why" in render(held, 48, 200)
    token = replace(held, mode="ar", top_probability=0.875)
    assert "probability 0.875  strain 12.3 nats  | " in render(token, 48, 200)
