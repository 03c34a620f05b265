"""Chat: messages to a prompt, and generated ids to an answer with its thoughts and tool calls.

Three template versions are in circulation. With thinking off the launch version ends the prompt
with an empty thought, `<|turn>model\\n<|channel>thought\\n<channel|>`, the later two with
`<|turn>model\\n`; with thinking on all end `<|turn>model\\n`. A thought may come either way, so
answers are always parsed for channels, by token ids: text that merely looks like a marker stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import CheckpointError, PromptError, Setting, SettingsError
from .template import render
from .tokenizer import Tokenizer
from .tools import ToolCall, parse_tool_call

THOUGHT = "thought"  # the name of the channel that holds thinking
CALL_OPENING, CALL_CLOSING = "<|tool_call>", "<tool_call|>"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Answer:
    """An answer taken apart: the text a reader sees, and the calls a program has to act on."""

    text: str
    thinking: str | None  # None where no thought was written, or only empty ones
    tool_calls: tuple[ToolCall, ...]


def require_no_template(*, system: str | None = None, think: bool = False) -> None:
    """SettingsError where a raw prompt comes with what only a template could write into it."""
    given = [Setting(name) for name, value in (("system", system), ("think", think)) if value]
    if given:
        both = (" and ", given[1]) if len(given) > 1 else ()
        raise SettingsError(
            *(given[0], *both),
            *(" cannot go with ", Setting("raw")),
            ", which gives the model the prompt as it is, without a template; leave out ",
            *(Setting("raw"), ", or write them into the prompt."),
        )


def render_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], *, think: bool = False
) -> list[int]:
    """The ids that ask for the next answer to `messages`.

    The template writes bos. One that does not gets none, as in the reference.
    """
    return tokenizer.encode(_rendered(tokenizer, messages, think))


def ignored(
    tokenizer: Tokenizer, messages: Sequence[Message], *, think: bool = False
) -> tuple[str, ...]:
    """The names of what the template is given and does not use: "system" and "think"."""
    others = [message for message in messages if message.role != "system"]
    if len(others) == len(messages) and not think:
        return ()
    rendered, names = _rendered(tokenizer, messages, think), list[str]()
    if len(others) < len(messages) and _same(rendered, tokenizer, others, think):
        names.append("system")
    if think and _same(rendered, tokenizer, messages, False):
        names.append("think")
    return tuple(names)


def _same(rendered: str, tokenizer: Tokenizer, messages: Sequence[Message], think: bool) -> bool:
    """True where other messages, or another `think`, give the same text."""
    try:
        return _rendered(tokenizer, messages, think) == rendered
    except PromptError:  # it cannot do without them
        return False


def _rendered(tokenizer: Tokenizer, messages: Sequence[Message], think: bool) -> str:
    if tokenizer.chat_template is None:
        raise CheckpointError(
            f"{tokenizer.folder} has no chat template: use --raw, or add chat_template.jinja."
        )
    if not messages:
        raise PromptError("no messages, expected at least one; write a prompt.")
    variables: dict[str, object] = {
        **tokenizer.special_tokens,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "tools": None,  # the reference defines both for every template
        "documents": None,
        "add_generation_prompt": True,
        "enable_thinking": think,
    }
    return render(tokenizer.chat_template, variables, tokenizer.folder)


def parse_answer(
    tokenizer: Tokenizer, ids: Sequence[int], stop_ids: Collection[int] = ()
) -> Answer:
    """Generated ids, taken apart into text, thinking and tool calls.

    - Trailing `stop_ids` are dropped; other control tokens leave no trace in the text.
    - `<|channel>` to `<channel|>` named "thought" is thinking, finished or not. Any other channel
      is part of the text, without the line that names it.
    - A closing marker that nothing opened is dropped.
    - A tool call leaves the text; a malformed or unfinished one stays in it, markers and all.
    - The text is as generated, whitespace too, save in front of it where a thought came first.
    """
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    text, after_thought = "", False
    markers = tokenizer.id_of("<|channel>"), tokenizer.id_of("<channel|>")
    for section in _sections(_without_stop(ids, stop_ids), *markers):
        thought = _thought(tokenizer, section)
        if thought is not None:
            thoughts.append(thought)
            after_thought = after_thought or not text.strip()
            continue
        part = _take_calls(tokenizer, section.ids, calls)
        text += _without_name(part) if section.inside else part
    thinking = "\n".join(filter(None, thoughts)) or None
    return Answer(text.lstrip() if after_thought else text, thinking, tuple(calls))


def longest_common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """The number of leading items two sequences share: so many a conversation's cache may keep."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((index for index, (x, y) in pairs if x != y), min(len(a), len(b)))


def _without_stop(ids: Sequence[int], stop_ids: Collection[int]) -> Sequence[int]:
    end = len(ids)
    while end and ids[end - 1] in stop_ids:
        end -= 1
    return ids[:end]


@dataclass(frozen=True)
class _Section:
    """A run of ids between two markers, which are left out of it."""

    ids: list[int]
    inside: bool  # an opening marker stood in front of it
    closed: bool  # a closing marker stands behind it


def _sections(ids: Sequence[int], opening: int | None, closing: int | None) -> Iterator[_Section]:
    """`ids` cut at the markers; a second opening marker ends the first section unclosed."""
    inside, body = False, list[int]()
    for token in ids:
        if token in (opening, closing):
            yield _Section(body, inside, closed=token == closing)
            inside, body = token == opening, []
        else:
            body.append(token)
    yield _Section(body, inside, closed=False)


def _thought(tokenizer: Tokenizer, section: _Section) -> str | None:
    """The section's thinking, "" for an empty thought; None where the section is no thought.

    A channel cut off before its name is complete counts as a thought, never as the answer.
    """
    if not section.inside:
        return None
    content = tokenizer.decode(section.ids)
    if THOUGHT.startswith(content) and not section.closed:
        return ""
    named = re.match(rf"\s*{THOUGHT}\b", content)
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
        else:  # losing it without a word would be worse than showing markers
            text += CALL_OPENING + content + (CALL_CLOSING if section.closed else "")
    return text
