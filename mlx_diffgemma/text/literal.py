"""Rendered prompts in which a control text is one only where the template wrote it.

A template makes one string of its own markers and of what users, clients, tools and models wrote,
and that string is encoded. Where what they wrote might hold or complete a control text, the
template renders it a second time with the characters at the edges of control texts masked: what is
masked in the result is theirs. Control texts with such a character are cut, so that the pieces,
encoded one by one, hold those of the template alone. A prompt without them stays one piece, and
has the ids of the reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from ..errors import DiffGemmaError, PromptError, shown
from .control import ControlTexts, parts
from .masks import ASSISTANT, Masks, Turn, masks_for, strings

Render = Callable[[Sequence[Turn], Sequence[Turn]], str]
"""The text that a template makes of messages and the declarations of tools."""

WRITTEN_THOUGHT = re.compile(r"\s*(<\|channel>\s*thought\b.*?<channel\|>)", re.DOTALL)
"""A thought in front of an answer, in one text with it."""


@dataclass(frozen=True)
class Written:
    """A rendered text in pieces: a control text in one of them is the template's own."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    def count(self, text: str) -> int:
        """The number of times that the template wrote one of its markers."""
        return sum(piece.count(text) for piece in self.pieces)

    def behind(self, length: int) -> Written:
        """The pieces behind the first `length` characters, at least one piece."""
        kept = list[str]()
        for piece in self.pieces:
            kept += [piece[length:]] if length < len(piece) else []
            length = max(0, length - len(piece))
        return Written(tuple(kept) or ("",))


def written(
    control: ControlTexts,
    render: Render,
    messages: Sequence[Turn],
    tools: Sequence[Turn] = (),
    *,
    template: str = "",
    trusted: Collection[str] = (),
) -> Written:
    """The text that a template makes of messages, with control texts of its own alone.

    template: its source. trusted: roles whose contents may hold control texts, as answers to learn
    do. A thought in front of another answer's text is left out where there are control texts, as
    templates leave it out. PromptError where the template cannot render a control text as text.
    """
    theirs = strings(messages, tools, trusted)
    if all(control.edges.isdisjoint(text) for text in theirs):
        return Written((render(messages, tools),))
    plain = render(messages, tools)
    held = next((text[a:b] for text in theirs for a, b in control.spans(text)), None)
    if held and "<|channel>" in control.texts:
        messages = [_without_thought(message, trusted) for message in messages]
    masks = masks_for(control.edges, [*theirs, template], trusted)
    masked = _masked(render, masks, messages, tools, held)
    text = masks.off(masked)
    if held is None and text != plain and _alike(control, plain, masked):
        return Written((plain,))  # the template looks at what it writes
    return Written(parts(text, list(_cuts(control, text, masked))))


def _without_thought(message: Turn, trusted: Collection[str]) -> Turn:
    """A message without the thought that an assistant's text begins with."""
    content, role = message.get("content"), message.get("role")
    if role not in ASSISTANT or role in trusted or not isinstance(content, str):
        return message
    found = WRITTEN_THOUGHT.match(content)
    return {**message, "content": content[found.end() :]} if found else message


def _masked(
    render: Render, masks: Masks, messages: Sequence[Turn], tools: Sequence[Turn], held: str | None
) -> str:
    """The rendering of masked messages; PromptError where the template refuses them."""
    try:
        text = render([*map(masks.message, messages)], [*map(masks.message, tools)])
    except (DiffGemmaError, RecursionError) as error:
        about = f"the control text {shown(held)}" if held else "a part of a control text"
        raise PromptError(
            f"a message or a tool has {about}, which the chat template cannot render as text; "
            "write it in another way."
        ) from error
    return masks.unescaped(text)


def _alike(control: ControlTexts, plain: str, masked: str) -> bool:
    """True where the control texts are the same, one after the other."""
    found = [[text[a:b] for a, b in control.spans(text)] for text in (plain, masked)]
    return found[0] == found[1]


def _cuts(control: ControlTexts, text: str, masked: str) -> Iterator[int]:
    """A place inside each control text that has a mark, beside the mark."""
    for start, end in control.spans(text):
        at = next((n for n in range(start, end) if text[n] != masked[n]), None)
        if at is not None:
            yield at if at > start else at + 1
