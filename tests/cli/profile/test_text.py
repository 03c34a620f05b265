"""Lines of a profile that depend on what was measured."""

from typing import Any

import pytest
from facts import assert_says

from mlx_diffgemma.cli.profile import modes
from mlx_diffgemma.cli.profile.text import waiting


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
        ({}, "63.3 steps a canvas ... 82.5 ... mode ar above ... --steps adaptive"),
        ({"steps": 3.7, "ratio": 4.0, "faster": "diffusion"}, "3.7 ... 4x as long; use diffusion"),
        ({"steps": 28.0, "ratio": 0.5, "faster": "ar"}, "28 ... 2x as fast; use ar"),
        ({"steps": 50.0, "ratio": 1.02, "faster": None}, "50 ... as long as ... use either"),
        ({"break_even_steps": -0.3}, "even 1 step takes longer than the 256 tokens ... use ar"),
    ],
)
def test_the_last_sentence(found: dict[str, Any], facts: str) -> None:
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
