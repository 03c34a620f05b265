"""Loops in an answer, which are reported and not hidden.

No penalty keeps a model from them: it would change every answer for the sake of a few, and with it
the text that drafts rely on.
"""

from collections.abc import Sequence

LAST, TIMES = 64, 3  # tokens that are looked at, and how often a period must fit into them


def repeats(ids: Sequence[int]) -> int | None:
    """The shortest period of the last 64 tokens that repeats at least three times in them, or None.

    Fewer than 64 tokens have none.
    """
    last = list(ids[-LAST:])
    if len(last) < LAST:
        return None
    periods = range(1, LAST // TIMES + 1)
    return next((p for p in periods if last[-1] == last[-1 - p] and last[p:] == last[:-p]), None)
