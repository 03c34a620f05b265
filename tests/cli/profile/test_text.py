"""Lines of a profile that depend on what was measured."""

import pytest
from facts import assert_says

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
