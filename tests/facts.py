"""Messages compared by their facts: numbers, names, paths, options, the command to run next."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

MOST_CHARACTERS = 350  # of a message, paths of a test's own folder included


def assert_says(message: object, *facts: object, most: int = MOST_CHARACTERS) -> None:
    """The message is one line of at most `most` characters, and each fact stands in it as a whole
    word, in this order.

    A dotted name, a number with its commas and an option are one word each: `5` is not said by
    `5,010`, nor `steps` by `--steps`. Since the order counts, got and expected cannot change
    places. One string holds several facts with " ... " between them.
    """
    text = str(message)
    assert "\n" not in text, f"more than one line: {text!r}"
    assert 0 < len(text) <= most, f"{len(text)} characters: {text}"
    at = 0
    for fact in " ... ".join(map(str, facts)).split(" ... "):
        found = whole(fact).search(text, at)
        assert found, f"{fact!r} is not said, or not in this place: {text[:at]} | {text[at:]}"
        at = found.end()


def whole(fact: str) -> re.Pattern[str]:
    """The fact, with no word, number or name going on at either end of it."""
    before = r"(?<![\w-])(?<!\w[.,])" if re.match(r"\w", fact) else ""
    after = r"(?![\w-])(?![.,]\w)" if re.search(r"\w$", fact) else ""
    return re.compile(before + re.escape(fact) + after)


@contextmanager
def raises(
    kind: type[BaseException], *facts: object, most: int = MOST_CHARACTERS
) -> Iterator[None]:
    """An error of exactly this type, whose message says the facts."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert_says(caught.value, *facts, most=most)
