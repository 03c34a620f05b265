"""The rule of mode auto: a pure function of times, counts and the context, on tables."""

import math
import runpy
from pathlib import Path
from typing import Any

import pytest

from mlx_diffgemma.autoregressive.router import (
    Router,
    Times,
    break_even,
    decide,
    expected_steps,
)

INFINITE = math.inf
PLENTY = 100_000
ROOT = Path(__file__).parents[2]

EVEN = [
    # milliseconds of a step and of a token, of a commit, canvas, factor, steps
    (447, 18.1, None, 256, 1.0, 256 * 18.1 / 447 - 0.7),
    (447, 18.1, None, 256, 1.3, 1.3 * 256 * 18.1 / 447 - 0.7),
    (447, 18.1, 894.0, 256, 1.0, 256 * 18.1 / 447 - 2),
    (10, 1, None, 64, 1.0, 5.7),
    (10, 1, 0.0, 81, 1.0, 8.1),
    (INFINITE, 1, None, 64, 1.0, -INFINITE),
    (1, INFINITE, None, 64, 1.3, INFINITE),
]


@pytest.mark.parametrize(("step", "token", "commit", "canvas", "factor", "steps"), EVEN)
def test_break_even_steps(
    step: float, token: float, commit: float | None, canvas: int, factor: float, steps: float
) -> None:
    got = break_even(Times(step, token, "given", commit), canvas, factor)
    assert got == pytest.approx(steps)


@pytest.mark.parametrize(
    ("steps", "expected"), [([], 14), ([20], 16), ([8, 8], 11), ([14] * 9, 14), ([48] * 98, 47.32)]
)
def test_expected_steps_begin_at_fourteen_and_follow_the_answer(
    steps: list[int], expected: float
) -> None:
    assert expected_steps(steps) == pytest.approx(expected)


DECIDED = [
    # expected steps, break-even, canvas, tokens and positions left, mode
    (14, 14, 256, PLENTY, PLENTY, "diffusion"),
    (14.01, 14, 256, PLENTY, PLENTY, "ar"),
    (1, 14, 256, 64, PLENTY, "diffusion"),
    (1, 14, 256, 63, PLENTY, "ar"),
    (1, 14, 256, PLENTY, 256, "diffusion"),
    (1, 14, 256, PLENTY, 255, "ar"),
    (1, 14, 64, 16, 64, "diffusion"),
    (1, 14, 64, 15, 64, "ar"),
    (1, 14, 64, 16, 63, "ar"),
    (1, 14, 81, 21, 81, "diffusion"),  # a quarter of 81 is 20.25
    (1, 14, 81, 20, 81, "ar"),
    (99, INFINITE, 256, 1, 1, "diffusion"),
    (1, -INFINITE, 256, PLENTY, PLENTY, "ar"),
]


@pytest.mark.parametrize(("expected", "even", "canvas", "tokens", "positions", "mode"), DECIDED)
def test_the_mode_of_a_segment(
    expected: float, even: float, canvas: int, tokens: int, positions: int, mode: str
) -> None:
    assert decide(expected, even, canvas, tokens, positions) == mode


def test_an_answer_switches_once_and_never_back() -> None:
    """Not even where canvases, or a budget, would have it denoised again."""
    router = Router(Times(10, 2.3, "given"), 64)  # 14.02 steps
    router.steps.append(20)
    assert router.decide(PLENTY, PLENTY) == "ar"
    router.steps.clear()
    assert router.decide(PLENTY, PLENTY) == "ar"
    router = Router(Times(10, 5, "given"), 64)
    assert [router.decide(left, PLENTY) for left in (PLENTY, 15, PLENTY)] == [
        "diffusion",
        "ar",
        "ar",
    ]


def test_every_decision_is_kept_with_its_reason() -> None:
    router = Router(Times(10, 2, "given"), 64, thinking=True)
    router.decide(PLENTY, PLENTY)
    router.steps.append(40)
    router.decide(PLENTY, PLENTY)
    made = [(d.segment, d.mode, d.expected) for d in router.decisions]
    assert made == [(0, "diffusion", 14), (1, "ar", pytest.approx(68 / 3))]
    assert [d.break_even for d in router.decisions] == [pytest.approx(1.3 * 12.8 - 0.7)] * 2
    assert router.length_factor == 1.3


@pytest.fixture(scope="module")
def simulation() -> dict[str, Any]:
    """The script that makes the table of docs/modes.md, which decides as the package does."""
    return runpy.run_path(str(ROOT / "scripts" / "make_modes_table.py"))


def test_the_rule_stays_near_the_better_mode(simulation: dict[str, Any]) -> None:
    assert simulation["too_slow"](40) == []


def test_the_table_of_the_page_is_what_the_script_makes(simulation: dict[str, Any]) -> None:
    page = Path(ROOT, "docs", "modes.md").read_text()
    assert "\n".join(simulation["table"]()) in page
