"""The ids in front of a canvas: a question in the chat template, or a text as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..assets import Task
from ..text.chat import Message, ignored, render_prompt
from ..text.tokenizer import Tokenizer

UNTRAINED = (
    "a system text is nothing that this checkpoint was trained on; its solutions may be wrong with "
    "one."
)


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
    notes = ignored(tokenizer, messages, think=think)
    untrained = task is not None and messages[0].role == "system" and not notes
    return Prompt(ids, (*notes, UNTRAINED) if untrained else notes)
