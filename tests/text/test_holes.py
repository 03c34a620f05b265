"""How holes are written, and that pinned text survives its tokens or is refused with its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts import raises

from mlx_diffgemma.errors import PromptError, SettingsError
from mlx_diffgemma.text.holes import (
    DEFAULT_GAP,
    encode_texts,
    longest_common_prefix,
    read_template,
)
from mlx_diffgemma.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("source", "texts", "lengths"),
    [
        ("a [[...]] b", ("a ", " b"), (32,)),
        ("[[7]]", ("", ""), (7,)),
        ("[[1]][[...]]\n", ("", "", "\n"), (1, 32)),
        ("[[007]]", ("", ""), (7,)),
        ("x = [[[...]]]", ("x = [", "]"), (32,)),
        ("[[[[2]]]]", ("[[", "]]"), (2,)),
        ("m[[0, 1]] [[....]] [[ 3 ]] [[-1]] [3] [[3] [[٣]] [[2]]", None, (2,)),
        (r"\[[3]] [[3]]", ("[[3]] ", ""), (3,)),
        (r"\[[...]]\[[3]] [[3]]", ("[[...]][[3]] ", ""), (3,)),
        (r"a\\[[3]]b", ("a\\", "b"), (3,)),
        (r"a\\\[[3]] [[1]]", (r"a\[[3]] ", ""), (1,)),
        (r"a\\\\[[3]]", ("a\\\\", ""), (3,)),
        (r"\n \\ \[ \[[ [[1]] \\", (r"\n \\ \[ \[[ ", r" \\"), (1,)),
    ],
)
def test_what_is_a_hole_and_what_is_text(
    source: str, texts: tuple[str, ...] | None, lengths: tuple[int, ...]
) -> None:
    template = read_template(source)
    assert template.lengths == lengths
    assert template.texts == (texts or (source.removesuffix("[[2]]"), ""))


@pytest.mark.parametrize(
    ("gaps", "lengths"),
    [
        (None, (DEFAULT_GAP, 5, DEFAULT_GAP)),
        (8, (8, 5, 8)),
        ([8], (8, 5, 8)),
        ([], (DEFAULT_GAP, 5, DEFAULT_GAP)),
        ((8, 9), (8, 5, 9)),
    ],
)
def test_gaps_are_for_holes_that_leave_their_length_open(
    gaps: int | list[int] | None, lengths: tuple[int, ...]
) -> None:
    assert read_template("[[...]] [[5]] [[...]]", gaps).lengths == lengths


@pytest.mark.parametrize(
    ("source", "gaps", "facts"),
    [
        ("[[...]]", 0, "gaps has 0 ... at least 1"),
        ("[[...]]", -1, "gaps has -1"),
        ("[[...]]", True, "gaps has True"),
        ("[[...]]", [1.5], "gaps has 1.5"),
        ("[[...]]", 10**9, "gaps has 1000000000"),
        ("[[...]]", [1, 2], "gaps has 2 ... template 1 [[...]] ... one for each"),
        ("[[...]] [[...]] [[...]]", [1, 2], "gaps has 2 ... template 3 [[...]]"),
        ("[[3]]", 4, "gaps ... no [[...]] ... leave gaps out"),
    ],
)
def test_gaps_that_do_not_fit_are_refused(source: str, gaps: int, facts: str) -> None:
    with raises(SettingsError, facts):
        read_template(source, gaps)


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("", "template is empty ... [[...]]"),
        ("text", "no hole ... [[...]], [[N]]"),
        (r"\[[3]]", "no hole"),
        ("a\nb [[0]]", "line 2 ... 0 tokens ... at least 1"),
        ("[[000]]", "line 1 ... 0 tokens"),
        ("[[1000000000]]", "line 1 has 100000000... tokens"),
        (f"[[{'9' * 5000}]]", "line 1 has 999999999... tokens"),
    ],
)
def test_what_is_no_template_is_refused(source: str, facts: str) -> None:
    with raises(PromptError, facts):
        read_template(source)


def test_many_backslashes_and_many_holes_take_no_time() -> None:
    """A run of backslashes is looked at once, not once from each of its places."""
    template = read_template("\\" * 200_001 + "[[1]]" + "[[2]]" * 5_000)
    assert template.texts[0] == "\\" * 100_000 + "[[1]]"
    assert len(template.lengths) == 5_000
    with pytest.raises(PromptError, match="has no hole"):
        read_template("\\" * 200_000)


def test_texts_are_encoded_one_by_one(tokenizer: Tokenizer) -> None:
    template = read_template("the s[[2]]ky[[2]] sky é\n")
    encoded = encode_texts(tokenizer, template)
    assert [tokenizer.decode(ids) for ids in encoded] == ["the s", "ky", " sky é\n"]
    assert list(encoded[0]) == tokenizer.encode("the s")
    assert list(encoded[1]) == tokenizer.encode("ky")  # "sky" would be one token


@pytest.mark.parametrize(
    ("source", "line", "text", "turned"),
    [
        ("ok [[1]]\nok\nhere a▁b", 3, "here a▁b", "here a b"),
        ("<turn|>\n[[1]]a▁", 2, "a▁", "a "),
    ],
)
def test_text_that_its_tokens_do_not_give_back_is_refused_with_its_place(
    tokenizer: Tokenizer, source: str, line: int, text: str, turned: str
) -> None:
    with raises(PromptError, f"line {line} has {text!r}", "tokenizer", repr(turned)):
        encode_texts(tokenizer, read_template(source))


def test_markers_in_a_template_are_text(tokenizer: Tokenizer) -> None:
    template = read_template("<turn|>a <eos>[[1]]<|tool_call>")
    encoded = encode_texts(tokenizer, template)
    assert tuple(map(tokenizer.decode, encoded)) == template.texts


@pytest.mark.parametrize(
    ("source", "line", "text", "turned"),
    [
        ("an <eos> end [[1]]", 1, "an <eos> end ", "an  end "),
        ("<turn|>[[1]]", 1, "<turn|>", ""),
        (r"\[[1]]" + "\n[[1]]\n\nx<pad>", 4, "x<pad>", "x"),
    ],
)
def test_markers_in_a_raw_template_are_no_text(
    tokenizer: Tokenizer, source: str, line: int, text: str, turned: str
) -> None:
    with raises(PromptError, f"line {line} has {text!r}", "tokenizer", repr(turned)):
        encode_texts(tokenizer, read_template(source), raw=True)


def test_the_line_of_a_text_behind_a_hole_is_counted_from_the_source(tokenizer: Tokenizer) -> None:
    template = read_template("one\ntwo[[1]]\n\nfour[[2]]five")
    assert template.lines == (1, 2, 4)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2, 4], 2), ([1], [1, 2], 1)],
)
def test_longest_common_prefix(a: list[int], b: list[int], length: int) -> None:
    assert longest_common_prefix(a, b) == longest_common_prefix(b, a) == length


# --- holes with names


@pytest.mark.parametrize(
    ("source", "texts", "regex"),
    [
        ("[[year:[12][0-9]{3}]]", ("", ""), "[12][0-9]{3}"),
        (r"a [[index:x\[[0-9]\]]] b", ("a ", " b"), r"x\[[0-9]\]"),
        ("[[a:b]]]", ("", "]"), "b"),
        ("[[a:b]c]]", ("", ""), "b]c"),
        ("[[[x:[[]]]", ("[", ""), "[[]"),
        (r"[[x:[\]]]]", ("", ""), r"[\]]"),
        (r"[[x:[]]]]", ("", "]"), "[]"),
        ("[[t:12:30]]", ("", ""), "12:30"),
        (r"[[_1:a|b\|]]", ("", ""), r"a|b\|"),
        (r"\\[[a:b]]", ("\\", ""), "b"),
        (r"\[[a:b]] [[c:d]]", ("[[a:b]] ", ""), "d"),
        (r"\[[a:\n[[c:d]]", (r"[[a:\n", ""), "d"),
        ("[[ a:b]] [[1a:b]] [[a b:c]] [[é:c]] [[c:d]]", None, "d"),
    ],
)
def test_where_a_hole_with_a_name_ends(
    source: str, texts: tuple[str, ...] | None, regex: str
) -> None:
    template = read_template(source)
    assert template.texts == (texts or (source.removesuffix("[[c:d]]"), ""))
    assert template.lengths == (DEFAULT_GAP,)
    (field,) = template.fields
    assert field is not None
    assert field.regex == regex


def test_names_stand_beside_other_holes_and_take_their_gaps() -> None:
    template = read_template("[[3]]\n[[b:x]] [[...]]\n\n[[c:y]]", [7, 8, 9])
    assert template.lengths == (3, 7, 8, 9)
    assert [field and (field.name, field.line) for field in template.fields] == [
        None,
        ("b", 2),
        None,
        ("c", 4),
    ]


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("a\n[[year:[0-9]]\n", "hole year in line 2 does not end ... [[year:regex]]"),
        ("[[year:a\n]]", "hole year in line 1 does not end"),
        (r"[[year:a\]]", "hole year in line 1 does not end"),
        ("[[year:]]", "hole year in line 1 has no regular expression"),
        ("[[a:b]]\n[[1]]\n[[a:c]]", "two holes in lines 1 and 3 ... a"),
        ("[[a:b]] [[a:c]]", "two holes in line 1 are both named a"),
        ("[[1a:b]]", "no hole ... [[name:regex]]"),
    ],
)
def test_a_hole_with_a_name_that_is_none_is_refused(source: str, facts: str) -> None:
    with raises(PromptError, facts):
        read_template(source)


def test_many_beginnings_of_names_take_no_time() -> None:
    template = read_template(r"\[[a:" * 10_000 + "[[1]]")
    assert template.lengths == (1,)
    with raises(PromptError, "does not end"):
        read_template("[[a:" + "[x\\" * 100_000)


def test_more_holes_than_the_context_has_room_for_are_refused_unencoded(
    tokenizer: Tokenizer,
) -> None:
    short = replace(tokenizer, most=3)
    assert len(encode_texts(short, read_template("[[1]] a [[1]] b [[1]]"))) == 4
    with raises(PromptError, "4 holes ... 3 tokens; shorten it"):
        encode_texts(short, read_template("[[1]] a [[1]] b [[1]] c [[1]]"))
