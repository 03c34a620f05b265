"""Labels: one token at one place each, as many as a vocabulary has."""

import re

import pytest
from fakes import CHARACTERS, FakeTexts

import mlx_diffgemma as dg
from mlx_diffgemma.decide.labels import INDEXED, LINES, Form, Labels

AT = ("questions", "q", "criteria")


def options(count: int) -> dg.Choice:
    return dg.Choice("?", {f"option {i}": None for i in range(count)})


@pytest.mark.parametrize("form", [LINES, INDEXED])
def test_a_vocabulary_of_words_has_labels_for_every_question(form: Form) -> None:
    labels = Labels(FakeTexts())
    assert labels.of(dg.Noul("?"), form, AT) == ("yes", "no")
    assert labels.of(dg.Score("?", ["a"] * 10), form, AT) == tuple("0123456789")
    letters = labels.of(options(52), form, AT)
    assert letters[:27] == (*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "a")
    many = labels.of(options(255), form, AT)
    assert many[:52] == letters
    assert many[52] == "AA"
    assert len(set(many)) == 255


def test_a_vocabulary_of_characters_says_y_and_n_and_has_no_pairs() -> None:
    labels = Labels(FakeTexts(CHARACTERS))
    assert labels.of(dg.Noul("?"), LINES, AT) == ("y", "n")
    assert len(labels.of(options(52), LINES, AT)) == 52
    with pytest.raises(dg.RequestError, match=r"53 options, and .* has 52 labels"):
        labels.of(options(53), LINES, AT)


def test_pairs_that_are_two_tokens_are_left_out() -> None:
    texts = FakeTexts(re.compile(r" ?(?!A[B-Z])[A-Za-z]+|.", re.DOTALL))
    pairs = Labels(texts).of(options(100), LINES, AT)[52:]
    assert pairs[0] == "AA"
    assert "AB" not in pairs
    assert "BA" in pairs


class Digits(FakeTexts):
    """A vocabulary of digits, in which all else is unknown."""

    def encode(self, text: str) -> list[int]:
        return [int(c) + 2 if c.isdigit() and c.isascii() else 1 for c in text]


def test_unknown_characters_are_no_labels() -> None:
    labels = Labels(Digits())
    assert len(labels.of(dg.Score("?", ["a"] * 10), LINES, AT)) == 10
    for question in (dg.Noul("?"), options(2)):
        with pytest.raises(dg.RequestError, match=r"2 options, and .* 0 labels"):
            labels.of(question, LINES, AT)


class Few(FakeTexts):
    """A vocabulary that knows three letters, and no others."""

    def encode(self, text: str) -> list[int]:
        return super().encode(re.sub("[D-Za-z]", "\ue000", text))


def test_letters_that_a_vocabulary_does_not_know_are_no_labels() -> None:
    labels = Labels(Few(CHARACTERS))
    assert labels.of(options(3), LINES, AT) == ("A", "B", "C")
    with pytest.raises(dg.RequestError, match=r"4 options, and .* 3 labels"):
        labels.of(options(4), LINES, AT)
