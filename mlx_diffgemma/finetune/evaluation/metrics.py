"""Metrics: tests of an answer's text against the one that is expected.

White space behind an answer, or behind the expected text, never counts.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import brief
from ...machine.files import parse_json

Test = Callable[[str], bool]  # an answer's text -> it is right


@dataclass(frozen=True)
class Metric:
    """A way to compare. made: the Test of an expected value; ValueError, a short line, for none.

    parsed: what is expected may be a value of JSON, where others take a text alone.
    """

    name: str
    made: Callable[[Any], Test]
    parsed: bool = False

    def test(self, expected: object) -> Test:
        """The test for what is expected; ValueError, its message a short line, where none is."""
        if not self.parsed and not isinstance(expected, str):
            raise ValueError(f"{brief(expected)} is no text, which metric {self.name} compares")
        return self.made(expected)


def _exact(expected: str) -> Test:
    """To the character: case, white space in front and inside, all of it."""
    wanted = expected.rstrip()
    return lambda answer: answer.rstrip() == wanted


def _contains(expected: str) -> Test:
    """Anywhere in the answer, to the character."""
    if not (wanted := expected.strip()):
        raise ValueError("the text is empty, and every answer contains that")
    return lambda answer: wanted in answer


def _json(expected: object) -> Test:
    """Equal values of JSON: order of keys and white space do not count, nor do 1 and 1.0 differ."""
    wanted = parse_json(expected.encode()) if isinstance(expected, str) else expected

    def test(answer: str) -> bool:
        try:
            return equal_values(parse_json(answer.encode()), wanted)
        except ValueError:
            return False

    return test


def _regex(expected: str) -> Test:
    """A pattern of Python's `re` that matches the whole answer."""
    try:
        pattern = re.compile(expected)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{brief(expected)} is no pattern: {error}") from None
    return lambda answer: pattern.fullmatch(answer.rstrip()) is not None


def equal_values(a: object, b: object) -> bool:
    """True for equal values of JSON; Python alone would take true for 1."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal_values(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal_values, a, b))
    return a == b


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("exact", _exact),
        Metric("contains", _contains),
        Metric("json", _json, parsed=True),
        Metric("regex", _regex),
    )
}
"""The metrics by the names that users type."""
