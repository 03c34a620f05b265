"""The ids in front of a canvas: a question in the chat template, or a text as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..assets import Task
from ..text.chat import Message, ignored, render_prompt
from ..text.tokenizer import Tokenizer

IGNORED = {
    "system": "the chat template ignores the system text; the model does not see it.",
    "think": "the chat template ignores think; the model is not told to think.",
}
UNTRAINED = "this checkpoint was trained without a system text; its answer may be wrong with one."


@dataclass(frozen=True)
class Prompt:
    """Token ids, and a line for each thing asked for that does not do what it should."""

    ids: list[int]
    notes: tuple[str, ...] = ()


def messages_for(prompt: str, system: str | None, earlier: Sequence[Message] = ()) -> list[Message]:
    """A question behind the `earlier` messages, under the system text where there is one."""
    first = [Message("system", system)] if system else []
    return [*first, *earlier, Message("user", prompt)]


def rendered(
    tokenizer: Tokenizer, messages: Sequence[Message], task: Task | None, *, think: bool = False
) -> Prompt:
    """The prompt that the chat template makes of messages; task: the checkpoint's own, if any."""
    ids = render_prompt(tokenizer, messages, think=think)
    names = ignored(tokenizer, messages, think=think)
    notes = tuple(IGNORED[name] for name in names)
    seen = messages[0].role == "system" and "system" not in names
    return Prompt(ids, (*notes, UNTRAINED) if task and seen else notes)
