"""Templates with holes, as users write them and as token ids.

`[[...]]` is a hole of a length chosen elsewhere, `[[12]]` one of at most 12 tokens, and
`[[name:regex]]` one whose text matches a regular expression, of a length chosen elsewhere, too.
Everything else is text. A backslash in front makes text of a hole: `\\[[12]]` stands for `[[12]]`,
and two stand for one backslash before a hole. Other backslashes and brackets are what they are.

A name has ASCII letters, digits and `_`, and begins with no digit. Its regular expression ends at
the first `]]` on its line that is neither in a set of characters nor behind a backslash:
`[[year:[12][0-9]{3}]]`, and `[[index:x\\[[0-9]\\]]]` for x[0] to x[9].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PromptError, Setting, SettingsError, brief
from .tokenizer import Tokenizer

DEFAULT_GAP = 32  # tokens of a hole that says nothing of its length
EXCERPT = 24  # characters quoted around what is wrong

_HOLE = re.compile(
    r"(?<!\\)(?P<slashes>\\*)\[\[(?:(?P<length>\.\.\.|[0-9]+)\]\]|(?P<name>[A-Za-z_][A-Za-z0-9_]*):)"
)
_SET = r"\[(?:\\.|[^\]\\\n])*\]"
_REGEX = re.compile(rf"((?:\\.|{_SET}|[^\[\]\\\n]|\](?!\]))*)\]\]")  # with the hole's end
_MOST_DIGITS = 9  # no context is as long


@dataclass(frozen=True)
class Field:
    """A hole with a name and the regular expression of its text; line: where it stands, from 1."""

    name: str
    regex: str
    line: int


@dataclass(frozen=True)
class Template:
    """texts[0], a hole, texts[1], ..., a hole, texts[-1]; lengths: tokens each hole has at most.

    lines: the line each text begins in, from 1; fields: of each hole, None for one without a name.
    """

    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    lines: tuple[int, ...]
    fields: tuple[Field | None, ...] = ()


def read_template(source: str, gaps: int | Sequence[int] | None = None) -> Template:
    """The template written in `source`.

    gaps: tokens of the `[[...]]` and `[[name:regex]]` holes, one number for all or one each; unset,
    32. PromptError: empty, without a hole, a hole of 0 tokens, one that does not end, or a name
    that stands there twice; SettingsError: gaps that do not fit.
    """
    if not source:
        raise PromptError("the template is empty, expected a text with holes like [[...]].")
    texts, lengths, lines, fields = [""], list[int | None](), [1], list[Field | None]()
    place, line = 0, 1
    while mark := _HOLE.search(source, place):
        slashes = len(mark["slashes"])
        texts[-1] += source[place : mark.start()] + "\\" * (slashes // 2)
        line += source.count("\n", place, mark.start())
        place = mark.end()
        if slashes % 2:
            texts[-1] += mark[0][slashes:]
            continue
        if mark["name"]:
            field, place = _field(source, mark, line)
            fields.append(field)
        else:
            fields.append(None)
        lengths.append(_length(mark["length"], line))
        texts.append("")
        lines.append(line)
    texts[-1] += source[place:]
    if not lengths:
        raise PromptError(
            "the template has no hole, expected [[...]], [[N]], N tokens at most, or "
            "[[name:regex]], the name of ASCII letters, digits and _; write one."
        )
    _require_names_once(fields)
    return Template(tuple(texts), _with_gaps(lengths, gaps), tuple(lines), tuple(fields))


def encode_texts(
    tokenizer: Tokenizer, template: Template, *, raw: bool = False
) -> tuple[tuple[int, ...], ...]:
    """The ids of each text; PromptError where decoding them does not give the very text back.

    raw: control texts in them are control tokens, which no text gives back.
    """
    _require_few(template, tokenizer.most)
    encoded = []
    encode = tokenizer.encode if raw else tokenizer.encode_text
    for text, line in zip(template.texts, template.lines, strict=True):
        ids = encode(text)
        if (back := tokenizer.decode(ids)) != text:
            raise PromptError(_changed(text, back, line))
        encoded.append(tuple(ids))
    return tuple(encoded)


def _require_few(template: Template, most: int | None) -> None:
    """PromptError for more holes than the context has positions, before their texts are encoded."""
    if most is not None and len(template.lengths) > most:
        raise PromptError(
            f"the template has {len(template.lengths):,} holes, and the context has room for "
            f"{most:,} tokens; shorten it.",
            too_long=True,
        )


def _field(source: str, mark: re.Match[str], line: int) -> tuple[Field, int]:
    """The field that begins with a mark, and where its hole ends."""
    name, found = mark["name"], _REGEX.match(source, mark.end())
    if found is None or not found[1]:
        wrong = "does not end" if found is None else "has no regular expression"
        raise PromptError(
            f"the hole {name} in line {line} {wrong}, expected [[{name}:regex]] in one line, its "
            "]] outside of a set of characters; a backslash in front makes text of it."
        )
    return Field(name, found[1], line), found.end()


def _require_names_once(fields: Sequence[Field | None]) -> None:
    lines: dict[str, int] = {}
    for field in filter(None, fields):
        if field.name in lines:
            first, second = lines[field.name], field.line
            both = f"lines {first} and {second}" if first != second else f"line {first}"
            raise PromptError(
                f"two holes in {both} are both named {field.name}, expected a name of its own "
                "for each; rename one."
            )
        lines[field.name] = field.line


def _length(digits: str | None, line: int) -> int | None:
    """A hole's own length; None where it leaves that open."""
    if digits in (None, "..."):
        return None
    length = int(digits) if len(digits) <= _MOST_DIGITS else None
    if not length:
        said = "0" if length == 0 else f"{digits[:_MOST_DIGITS]}..."
        raise PromptError(
            f"the hole in line {line} has {said} tokens, expected at least 1 and no more than the "
            "context holds; a backslash in front makes text of it."
        )
    return length


def _with_gaps(lengths: Sequence[int | None], gaps: int | Sequence[int] | None) -> tuple[int, ...]:
    """All lengths, those that are left open taken from `gaps`."""
    count = lengths.count(None)
    given = () if gaps is None else (gaps,) if isinstance(gaps, int) else tuple(gaps)
    for gap in given:
        if not isinstance(gap, int) or isinstance(gap, bool) or not 1 <= gap < 10**_MOST_DIGITS:
            raise SettingsError(
                Setting("gaps"), f" has {brief(gap)}, expected whole numbers of at least 1."
            )
    if given and count == 0:
        gaps_name = Setting("gaps")
        raise SettingsError(
            gaps_name,
            " is given, the template has no [[...]], nor a hole with a name; leave ",
            *(gaps_name, " out."),
        )
    if len(given) > 1 and len(given) != count:
        raise SettingsError(
            Setting("gaps"),
            f" has {len(given)} numbers, the template {count} [[...]] or holes with names; give "
            "one for each, or one for all.",
        )
    one = given[0] if given else DEFAULT_GAP
    each = iter(given if len(given) > 1 else (one,) * count)
    return tuple(next(each) if length is None else length for length in lengths)


def _changed(text: str, back: str, line: int) -> str:
    """The place where a text does not survive its tokens, in words."""
    at = longest_common_prefix(text, back)
    line += text.count("\n", 0, at)
    first = max(0, text.rfind("\n", 0, at) + 1, at - EXCERPT // 2)
    quoted, got = text[first : at + EXCERPT // 2], back[first : at + EXCERPT // 2]
    return (
        f"the template's line {line} has {quoted!r}, which the tokenizer turns into {got!r}; "
        "pinned text must survive its tokens: write that place otherwise."
    )


def longest_common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """The number of leading items that two sequences share."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((index for index, (x, y) in pairs if x != y), min(len(a), len(b)))
