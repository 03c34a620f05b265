"""Words that messages share."""

import pytest

from mlx_diffgemma.errors import counted


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (0, "message", "0 messages"),
        (1, "canvas", "1 canvas"),
        (2, "canvas", "2 canvases"),
        (1, "step", "1 step"),
        (1024, "prompt token", "1,024 prompt tokens"),
        (2, "entry", "2 entries"),
        (3, "key", "3 keys"),
        (2, "prefix", "2 prefixes"),
    ],
)
def test_a_count_of_one_has_no_plural(count: int, noun: str, said: str) -> None:
    """`1 canvases` and `1 messages` were printed."""
    assert counted(count, noun) == said
