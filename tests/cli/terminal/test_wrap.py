"""Text in lines of cells."""

import random
from itertools import pairwise

import pytest
from rich.cells import cell_len
from rich.style import Style

from mlx_diffgemma.cli.terminal.wrap import Wrapper, atoms, word_wrapped

BOLD, PLAIN = Style(bold=True), Style()
FAMILY, THUMB = "👨\u200d👩\u200d👧", "👍🏽"


def wrapped(width: int, *texts: str) -> list[str]:
    """The lines of texts that follow each other, in turn bold and plain."""
    wrapper = Wrapper(width)
    for number, text in enumerate(texts):
        wrapper.add(text, PLAIN if number % 2 else BOLD)
    return ["".join(segment.text for segment in line) for line in wrapper.finished()]


@pytest.mark.parametrize(
    ("width", "texts", "lines"),
    [
        (10, ["the sky is blue"], ["the sky is", "blue"]),
        (10, ["the sk", "y is bl", "ue"], ["the sky is", "blue"]),
        (9, ["the sky is"], ["the sky ", "is"]),
        (20, ["one\n\ntwo"], ["one", "", "two"]),
        (20, ["one\n"], ["one"]),
        (4, ["abcdefghij"], ["abcd", "efgh", "ij"]),
        (4, ["ab abcdefgh"], ["ab a", "bcde", "fgh"]),
        (5, ["空は青い"], ["空は", "青い"]),
        (1, ["a空b"], ["a", "b"]),
        (20, ["a\tb"], ["a    b"]),
        (20, ["a\r\nb\u2028c"], ["a", "b", "c"]),
        (20, ["\x1b[31mred\x07"], ["·[31mred·"]),
        (20, ["a\u202eb\u200bc\ufeff"], ["abc"]),
        (20, [FAMILY, THUMB, "❤\ufe0f"], ["👨👩👧👍❤"]),
        (3, ["e\u0301e\u0301e\u0301e\u0301"], ["e\u0301" * 3, "e\u0301"]),
        (3, ["a    b"], ["a  ", "b"]),
        (0, ["ab"], ["a", "b"]),
    ],
)
def test_lines(width: int, texts: list[str], lines: list[str]) -> None:
    assert wrapped(width, *texts) == lines


def test_no_line_is_wider_than_said() -> None:
    chance = random.Random(0)
    letters = "ab \n\t空😀é\u0301\u200d\x1b"
    for _ in range(500):
        width = chance.randrange(1, 30)
        texts = ["".join(chance.choices(letters, k=chance.randrange(8))) for _ in range(20)]
        lines = wrapped(width, *texts)
        assert max(map(cell_len, lines), default=0) <= width
        assert all(line.isprintable() for line in lines)
        if width > 1:  # in one column nothing of two cells can be shown
            kept = "".join(lines).replace(" ", "").replace("·", "")
            assert kept == "".join(c for c in "".join(texts) if c in "ab空😀é\u0301")


def test_neighbours_of_one_style_are_one_segment() -> None:
    wrapper = Wrapper(80)
    for text, style in (("a", BOLD), ("b c", BOLD), ("d", PLAIN)):
        wrapper.add(text, style)
    (line,) = wrapper.finished()
    assert [(segment.text, segment.style) for segment in line] == [("ab c", BOLD), ("d", PLAIN)]


def test_a_copy_is_another_text() -> None:
    wrapper = Wrapper(10)
    wrapper.add("one\ntwo\nthr", PLAIN)
    copy = wrapper.copy(1)
    copy.add("ee", PLAIN)
    assert ["".join(s.text for s in line) for line in copy.finished()] == ["two", "three"]
    assert ["".join(s.text for s in line) for line in wrapper.finished()] == ["one", "two", "thr"]


def test_atoms_know_their_cells() -> None:
    assert atoms("a 空\n") == (("a", 1), (" ", 1), ("空", 2), ("\n", 0))


@pytest.mark.parametrize(
    ("width", "text", "rows"),
    [
        (9, "the sky is", ["the sky", "is"]),
        (10, "the sky is", ["the sky is"]),
        (10, "see /a/long/path here", ["see", "/a/long/path here"]),
        (5, "空は 青い 空", ["空は", "青い", "空"]),
        (5, "空は青い a b", ["空は青い", "a b"]),  # the terminal shows 空は and 青い
        (20, "  two   blanks", ["  two   blanks"]),
        (20, "", [""]),
        (1, "a b", ["a", "b"]),
    ],
)
def test_rows_of_whole_words(width: int, text: str, rows: list[str]) -> None:
    assert word_wrapped(text, width).split("\n") == rows


def test_words_are_kept_whole_and_rows_are_full() -> None:
    chance = random.Random(0)
    for _ in range(300):
        width = chance.randrange(8, 30)
        words = ["".join(chance.choices("ab空é", k=chance.randrange(1, 9))) for _ in range(12)]
        rows = word_wrapped(" ".join(words), width).split("\n")
        assert " ".join(rows).split() == words
        for row, after in pairwise([*rows, None]):
            assert cell_len(row) <= width or len(row.split()) > 0
            if after and max(map(cell_len, row.split())) <= width:
                assert cell_len(row) <= width
                assert cell_len(f"{row} {after.split()[0]}") > width
