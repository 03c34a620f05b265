"""The rules of `mlx_diffgemma.text.answer` once more, plainly, for ids that are all there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mlx_diffgemma.text.answer import THOUGHT, Answer
from mlx_diffgemma.text.call_text import QUOTED
from mlx_diffgemma.text.tokenizer import Tokenizer
from mlx_diffgemma.text.tools import CALL_CLOSING, CALL_OPENING, QUOTE, ToolCall, read_call


@dataclass(frozen=True)
class Section:
    """A run of ids between two markers, which are left out of it."""

    ids: list[int]
    inside: bool  # an opening marker stood in front of it
    closed: bool  # a closing marker stands behind it


@dataclass
class Found:
    """Calls and their repairs; cut: a call that is open at the end of a section was cut."""

    calls: list[ToolCall]
    repairs: list[str]
    cut: bool = False
    cut_call: bool = False


def plain_answer(
    tokenizer: Tokenizer, ids: Sequence[int], stop_ids: Collection[int] = ()
) -> Answer:
    """The answer in ids up to the first stop id, each section of them decoded as a whole."""
    thoughts: list[str] = []
    found = Found([], [])
    text, after_thought = "", False
    end = next((at for at, token in enumerate(ids) if token in stop_ids), len(ids))
    markers = tokenizer.id_of("<|channel>"), tokenizer.id_of("<channel|>")
    sections = list(_sections(ids[:end], *markers))
    for number, section in enumerate(sections):
        thinks = _is_thought(tokenizer, section)
        found.cut = end == len(ids) and number == len(sections) - 1
        part = _take_calls(tokenizer, section.ids, found)
        if thinks:
            content = part.lstrip()
            begun = THOUGHT.startswith(content)
            thoughts.append("" if begun else content.removeprefix(THOUGHT).strip())
            after_thought = after_thought or not text.strip()
        else:
            text += _without_name(part) if section.inside else part
    thinking = "\n".join(filter(None, thoughts)) or None
    text = text.lstrip() if after_thought else text
    return Answer(text, thinking, tuple(found.calls), tuple(found.repairs), found.cut_call)


def _sections(ids: Sequence[int], opening: int | None, closing: int | None) -> Iterator[Section]:
    """`ids` cut at the markers; a second opening marker ends the first section unclosed."""
    inside, body = False, list[int]()
    for token in ids:
        if token in (opening, closing):
            yield Section(body, inside, closed=token == closing)
            inside, body = token == opening, []
        else:
            body.append(token)
    yield Section(body, inside, closed=False)


def _is_thought(tokenizer: Tokenizer, section: Section) -> bool:
    """True for a channel of the thought's name, be it cut or followed by a call.

    A channel cut off before its name is complete counts as a thought, never as the answer.
    """
    if not section.inside:
        return False
    opening = tokenizer.id_of(CALL_OPENING)
    calls = opening in section.ids
    name = section.ids[: section.ids.index(opening)] if calls else section.ids
    content = tokenizer.decode(name).lstrip()
    if THOUGHT.startswith(content) and not section.closed and not calls:
        return True
    return re.match(rf"{THOUGHT}\b", content) is not None


def _without_name(channel: str) -> str:
    """A channel's text after the line that names it; all of it where there is one line only."""
    name, newline, content = channel.partition("\n")
    return content if newline else name


def _take_calls(tokenizer: Tokenizer, ids: Sequence[int], found: Found) -> str:
    """The text of `ids`, with each call that can be read moved to `found`."""
    text = ""
    markers = tokenizer.id_of(CALL_OPENING), tokenizer.id_of(CALL_CLOSING)
    sections = list(_sections(ids, *markers))
    for number, section in enumerate(sections):
        if not section.inside:
            text += tokenizer.decode(section.ids)
            continue
        if found.cut and not section.closed and number == len(sections) - 1:
            found.cut_call = True
            continue
        read = read_call(_inside(tokenizer, section.ids)) if section.closed else None
        if read is not None:
            found.calls.append(read.call)
            found.repairs += read.repairs
        else:
            content = tokenizer.decode(section.ids, special=True)
            text += CALL_OPENING + content + (CALL_CLOSING if section.closed else "")
    return text


def _inside(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The inside of a call, its quote tokens marked."""
    quote, parts = tokenizer.id_of(QUOTE), [list[int]()]
    for token in ids:
        if token == quote:
            parts.append([])
        else:
            parts[-1].append(token)
    return QUOTED.join(tokenizer.decode(part, special=True) for part in parts)
