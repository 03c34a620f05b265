"""Metrics on the edges of each."""

import re

import pytest

from mlx_diffgemma.finetune.evaluation.metrics import METRICS

RIGHT = [
    ("exact", "4.", "4."),
    ("exact", "4.", "4. \n"),
    ("exact", "4.\n", "4."),
    ("exact", "", " "),
    ("contains", "Paris", "It is Paris."),
    ("contains", " Paris\n", "Paris"),
    ("json", '{"a": 1, "b": [true, null]}', ' {"b":[true,null],"a":1.0}\n'),
    ("json", {"a": 1}, '{"a": 1}'),
    ("json", "3", "3.0"),
    ("json", None, "null"),
    ("json", 0, "-0"),
    ("regex", r"\d+\.", "42."),
    ("regex", r"(?i)yes\.?", "YES\n"),
    ("regex", "", ""),
    ("regex", "a.b", "aéb"),
]
WRONG = [
    ("exact", "4.", "4"),
    ("exact", "4.", " 4."),
    ("exact", "Yes", "yes"),
    ("exact", "a b", "a  b"),
    ("contains", "Paris", "paris"),
    ("json", "1", "true"),
    ("json", "0", "false"),
    ("json", "null", "0"),
    ("json", "[1, 2]", "[2, 1]"),
    ("json", "[1]", "[1, 1]"),
    ("json", '{"a": 1}', '{"a": 1, "b": 2}'),
    ("json", '{"a": 1}', '{"a": 1} Done.'),
    ("json", '{"a": 1}', '{"a": 1, "a": 1}'),
    ("json", '"1"', "1"),
    ("json", "1", "NaN"),
    ("regex", r"\d+", "42."),
    ("regex", "a|b", "ab"),
    ("regex", "a.b", "a\nb"),
]
NONE = [
    ("exact", 4, "4"),
    ("exact", None, "None"),
    ("contains", " \n", "empty"),
    ("contains", ["a"], "a"),
    ("json", "{", "line 1"),
    ("json", "NaN", "NaN"),
    ("regex", "(", "'('"),
    ("regex", "a{99999999999}", "pattern"),
    ("regex", 4, "4"),
]


@pytest.mark.parametrize(("name", "expected", "answer"), RIGHT)
def test_right(name: str, expected: object, answer: str) -> None:
    assert METRICS[name].test(expected)(answer)


@pytest.mark.parametrize(("name", "expected", "answer"), WRONG)
def test_wrong(name: str, expected: object, answer: str) -> None:
    assert not METRICS[name].test(expected)(answer)


@pytest.mark.parametrize(("name", "expected", "said"), NONE)
def test_nothing_to_compare_with(name: str, expected: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        METRICS[name].test(expected)
    assert "\n" not in str(caught.value)
