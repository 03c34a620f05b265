"""The rules of `mlx_diffgemma.text.answer` once more, plainly, for ids that are all there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mlx_diffgemma.text.answer import THOUGHT, Answer
from mlx_diffgemma.text.tokenizer import Tokenizer
from mlx_diffgemma.text.tools import CALL_CLOSING, CALL_OPENING, ToolCall, parse_tool_call


@dataclass(frozen=True)
class Section:
    """A run of ids between two markers, which are left out of it."""

    ids: list[int]
    inside: bool  # an opening marker stood in front of it
    closed: bool  # a closing marker stands behind it


def plain_answer(
    tokenizer: Tokenizer, ids: Sequence[int], stop_ids: Collection[int] = ()
) -> Answer:
    """The answer in ids up to the first stop id, each section of them decoded as a whole."""
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    text, after_thought = "", False
    end = next((at for at, token in enumerate(ids) if token in stop_ids), len(ids))
    markers = tokenizer.id_of("<|channel>"), tokenizer.id_of("<channel|>")
    for section in _sections(ids[:end], *markers):
        thought = _thought(tokenizer, section)
        if thought is not None:
            thoughts.append(thought)
            after_thought = after_thought or not text.strip()
            continue
        part = _take_calls(tokenizer, section.ids, calls)
        text += _without_name(part) if section.inside else part
    thinking = "\n".join(filter(None, thoughts)) or None
    return Answer(text.lstrip() if after_thought else text, thinking, tuple(calls))


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


def _thought(tokenizer: Tokenizer, section: Section) -> str | None:
    """The section's thinking, "" for an empty thought; None where the section is no thought.

    A channel cut off before its name is complete counts as a thought, never as the answer.
    """
    if not section.inside:
        return None
    content = tokenizer.decode(section.ids).lstrip()
    if THOUGHT.startswith(content) and not section.closed:
        return ""
    named = re.match(rf"{THOUGHT}\b", content)
    return content[named.end() :].strip() if named else None


def _without_name(channel: str) -> str:
    """A channel's text after the line that names it; all of it where there is one line only."""
    name, newline, content = channel.partition("\n")
    return content if newline else name


def _take_calls(tokenizer: Tokenizer, ids: Sequence[int], calls: list[ToolCall]) -> str:
    """The text of `ids`, with each well-formed tool call moved to `calls`."""
    text = ""
    markers = tokenizer.id_of(CALL_OPENING), tokenizer.id_of(CALL_CLOSING)
    for section in _sections(ids, *markers):
        if not section.inside:
            text += tokenizer.decode(section.ids)
            continue
        content = tokenizer.decode(section.ids, special=True)
        call = parse_tool_call(content) if section.closed else None
        if call is not None:
            calls.append(call)
        else:
            text += CALL_OPENING + content + (CALL_CLOSING if section.closed else "")
    return text
