"""Lines of a profile that depend on what was measured."""

from typing import Any

import pytest
from facts import assert_says

from mlx_diffgemma.cli.profile import modes
from mlx_diffgemma.cli.profile.parts import routing_lines, waiting
from mlx_diffgemma.cli.profile.text import inside
from mlx_diffgemma.cli.verdicts import summary


@pytest.mark.parametrize(
    ("overhead_ms", "facts"),
    [
        (0.512, "58 times a step ... 0.512 ms ... 5.1% ... taken off"),
        (0.0, "58 times a step ... less ... nothing is taken off"),
        (-0.4, "58 times a step ... less ... nothing is taken off"),
    ],
)
def test_waiting_never_takes_less_than_no_time(overhead_ms: float, facts: str) -> None:
    """`waiting 58 times a step took -0.4 ms (-4.0% of it)` was printed where noise was larger."""
    fences = {"overhead_ms": overhead_ms, "overhead_share": overhead_ms / 10}
    line = waiting({"fences_per_step": 58.0, **fences})
    assert_says(line, facts)
    assert "-0.4" not in line


# --- which mode is faster


def two_modes(**found: Any) -> dict[str, Any]:
    """A profile of a token that takes 15 ms and a step that takes 60 ms."""
    ar = {
        "token_ms": {"p10": 14.0, "p50": 15.0, "p90": 16.0},
        "tokens_per_second": 66.0,
        "break_even_steps": 63.3,
        "break_even_steps_thinking": 82.5,
        "steps": None,
        "ratio": None,
        "faster": None,
    }
    return {"ar": ar | found, "step_ms": {"p50": 60.0}, "model": {"canvas_length": 256}}


@pytest.mark.parametrize(
    ("found", "facts"),
    [
        ({}, "63.3 steps a canvas ... 82.5 ... mode ar above"),
        ({"steps": 3.7, "ratio": 4.0, "faster": "diffusion"}, "3.7 ... 4x as long; use diffusion"),
        ({"steps": 28.0, "ratio": 0.5, "faster": "ar"}, "28 ... 2x as fast; use ar"),
        ({"steps": 50.0, "ratio": 1.02, "faster": None}, "50 ... as long as ... use either"),
        ({"break_even_steps": -0.3}, "even 1 step takes longer than the 256 tokens ... use ar"),
    ],
)
def test_the_sentence_on_modes(found: dict[str, Any], facts: str) -> None:
    (line,) = modes.sentence(two_modes(**found))
    assert_says(line, "a token takes 15 ms and a step 60 ms", facts)


def test_nothing_is_said_where_one_mode_was_measured() -> None:
    profile = {"ar": None, "model": {"modes": ["diffusion"]}, "sustained": None}
    assert list(modes.sentence(profile)) == []
    ((_, line),) = modes.rows(profile)
    assert_says(line, "none ... next-token loss")
    both = {"ar": None, "model": {"modes": ["diffusion", "ar"]}, "sustained": {"seconds": 3.0}}
    ((_, line),) = modes.rows(both)
    assert_says(line, "not measured ... sustained")


# --- inside of a step


def within(**changes: Any) -> dict[str, Any]:
    rows = {"gathered": 212.5, "second_tier": 30.0, "dense": 13.5}
    profile = {f"{tier}_rows_per_step": count for tier, count in rows.items()}
    return profile | {"caller_ms_per_step": 0.0, "verdicts": []} | changes


def test_rows_by_tier_and_what_the_caller_took() -> None:
    ((_, line),) = inside(within())
    assert_says(line, "212.5 rows a step from 64 tokens, 30 from 1,024, 13.5 by the whole product")
    _, (_, line) = inside(within(caller_ms_per_step=1.234))
    assert_says(line, "1.23 ms a step ... ran")


def verdict(outcome: str, days: float | None, *, steady: bool = True) -> dict[str, Any]:
    return {"outcome": outcome, "age_days": days, "steady": steady}


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        ([], "none"),
        ([verdict("faster", 0.2)] * 3, "3 faster; 0 days old"),
        ([verdict("faster", 2.0), verdict("slower", 58.4)], "1 faster, 1 slower; 2 to 58 days old"),
        ([verdict("faster", None)], "1 faster; age unknown"),
        ([verdict("faster", 2.0, steady=False)], "2 days old; 1 found on a busy machine ... check"),
    ],
)
def test_verdicts_in_a_line(rows: list[dict[str, Any]], facts: str) -> None:
    assert_says(summary(rows), facts)


def test_used_verdicts_have_a_line_in_the_report() -> None:
    _, (_, line) = inside(within(verdicts=[verdict("faster", 9.0)]))
    assert_says(line, "1 faster; 9 days old")


def test_experts_that_were_counted() -> None:
    routing = {
        "experts": 128,
        "touched": {"mean": 84.25, "least": 61, "most": 119},
        "touched_by_step": [101.0, 90.0, 80.5],
        "rows_per_expert": [
            {"least": 0, "most": 0, "experts": 43.75},
            {"least": 1, "most": 8, "experts": 40.0},
            {"least": 9, "most": None, "experts": 44.25},
        ],
        "tile_rows": 32,
        "granule_rows": 8,
        "tiles": 101.4,
        "tile_waste": 0.369,
        "granule_waste": 0.121,
        "expert_bytes": 8.45e9,
    }
    lines = list(routing_lines(routing, {"text_experts": 84}))
    assert_says(lines[0], "84.25 of 128 ... 61 to 119 ... 101 ... first ... 80.5 ... last; 84")
    assert_says(lines[1], "43.8 x 0, 40 x 1-8, 44.2 x 9+")
    assert_says(lines[2], "32 rows ... 101.4 a layer; 37% ... empty, 12% ... 8")
    assert_says(lines[3], "8.45 GB a step")
