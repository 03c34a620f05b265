"""The summary that opens a profile: only what was measured, and one thing to do next."""

from typing import Any

import pytest
from facts import assert_says

from mlx_diffgemma.cli.profile.summary import sentences

BOUND = {
    "name": "M4 Pro",
    "estimated": False,
    "compute_ms": 275.0,
    "memory_ms": 60.0,
    "share": 0.625,
}
AR = {
    "token_ms": {"p50": 21.0},
    "tokens_per_second": 47.04,
    "break_even_steps": 12.2,
    "break_even_steps_thinking": 15.9,
    "steps": 14.1,
    "ratio": 0.87,
    "faster": "ar",
}


def profile(**changes: Any) -> dict[str, Any]:
    """An adaptive run of the 26B model on a Mac, with nothing to complain of."""
    return {
        "complete": True,
        "machine": {"device": "gpu", "chip": "Apple M4 Pro"},
        "model": {"canvas_length": 256, "modes": ["diffusion", "ar"]},
        "workload": {"kind": "adaptive", "steps": None, "canvases": 60},
        "step_ms": {"p50": 440.2},
        "tokens_per_step": 18.21,
        "tokens_per_second_without_prefill": 41.3,
        "effective_steps": 14.06,
        "healthy": True,
        "bound": BOUND,
        "components": {},
        "sustained": None,
        "ar": AR,
        "warnings": [],
    } | changes


FIXED = {"workload": {"kind": "fixed", "steps": 16, "canvases": 5}, "healthy": None}


def test_a_run_in_plain_words() -> None:
    step, tokens, health, mode, then = sentences(profile())
    assert_says(step, "440 ms, 1.6 times ... bound ... arithmetic, 275 ms ... M4 Pro.")
    assert_says(tokens, "18.2 tokens a step; 41.3 tokens/s ... mode ar 47.")
    assert_says(health, "Healthy: 14.1 effective steps ... 9 to 17 ... 28 ... published")
    assert_says(mode, "14.1 steps a canvas ... 1.15x as fast; use ar.")
    assert_says(then, "Next: ... --components")


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"bound": BOUND | {"memory_ms": 300.0}}, "limits it is memory, 300 ms"),
        ({"bound": BOUND | {"estimated": True}}, "an estimated 275 ms"),
        ({"bound": None}, "440 ms; no bound is known for Apple M4 Pro."),
        ({"bound": None, "machine": {"device": "cpu", "chip": "AMD EPYC"}}, "known for a CPU."),
        ({"bound": None, "machine": {"device": "gpu", "chip": None}}, "known for this chip."),
    ],
)
def test_a_bound_only_where_one_is_known(changes: dict[str, Any], facts: str) -> None:
    assert_says(next(sentences(profile(**changes))), facts)


def test_what_was_not_measured_has_no_figure() -> None:
    """Fixed steps make as many tokens as were asked for: they are no result."""
    _, tokens, health, _, then = sentences(profile(**FIXED))
    assert_says(tokens, "16 steps a canvas, as asked for, 41.3 tokens/s")
    assert "18.2" not in tokens
    assert_says(health, "not known: ... asked for")
    assert_says(then, "--steps adaptive")
    alone = profile(ar=None, sustained={"seconds": 600.0})
    (_, tokens, _, then) = sentences(alone)
    assert_says(tokens, "Mode ar: not measured: a sustained run")
    none = profile(ar=None, model={"canvas_length": 90, "modes": ["diffusion"]})
    assert_says(list(sentences(none))[1], "Mode ar: none: ... next-token loss.")


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"healthy": False, "effective_steps": 46.0}, "Not healthy: 46.0 effective steps"),
        ({"healthy": None}, "not known: ... 26B model"),
        (
            {"healthy": None, "workload": {"kind": "adaptive", "steps": None, "canvases": 4}},
            "not known: fewer than 5 canvases",
        ),
    ],
)
def test_health_is_that_of_the_published_steps(changes: dict[str, Any], facts: str) -> None:
    assert_says(list(sentences(profile(**changes)))[2], facts)


def test_the_largest_part_where_parts_were_measured() -> None:
    shares = {"experts": 0.61, "attention": 0.2, "head": None}
    parts = {name: {"share": share} for name, share in shares.items()}
    _, part, *_, then = sentences(profile(components=parts))
    assert_says(part, "experts, 61%")
    assert_says(then, "--tune ... --send")
    busy = {"experts": {"share": None}}  # the fences took too long for shares
    assert "largest" not in "".join(sentences(profile(components=busy)))


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"complete": False, **FIXED}, "measure again"),
        ({"healthy": False}, "selftest ... more bits"),
        ({"sustained": {"seconds": 600.0}}, "--tune"),
    ],
)
def test_the_one_thing_to_do_next(changes: dict[str, Any], facts: str) -> None:
    assert_says(list(sentences(profile(**changes)))[-1], f"Next: ... {facts}")


def test_warnings_are_announced() -> None:
    """They stand below tables that are longer than a screen."""
    *_, warned, _ = sentences(profile(warnings=["on battery", "only 2 canvases"]))
    assert_says(warned, "2 warnings at the end")
