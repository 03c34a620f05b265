"""One conversation: what was asked and answered, and the live cache of what is encoded of it.

The keys and values of what has been encoded are kept. A further question goes back to the longest
token prefix that old and new prompt share, and encodes exactly the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import PromptError
from ..model.cache import Prefix
from ..model.text import Model
from ..text.chat import Message, longest_common_prefix


@dataclass
class Conversation:
    """Questions and answers in turn, the system text over them, and their encoded prefix."""

    system: str | None = None
    history: list[Message] = field(default_factory=list)
    prefix: Prefix | None = None

    def reset(self) -> None:
        """Forgets what was said and its cache; the system text stays."""
        self.history.clear()
        self.prefix = None

    def restore(self, messages: Sequence[Message], system: str | None = None) -> None:
        """Goes on with an earlier conversation: questions and answers in turn, the system text."""
        for number, message in enumerate(messages):
            expected = ("user", "assistant")[number % 2]
            if message.role != expected:
                raise PromptError(
                    f"message {number + 1} of the conversation is the {message.role}'s, expected "
                    f"the {expected}'s; questions and answers take turns."
                )
        if len(messages) % 2:
            raise PromptError(
                "the conversation ends with a question; leave it out, and ask it again."
            )
        self.history[:] = messages
        self.system = system or None

    def rewind(self, model: Model, tokens: Sequence[int]) -> Prefix:
        """The prefix, gone back to what it shares with `tokens`."""
        if self.prefix is None:
            self.prefix = model.new_prefix()
        self.prefix.roll_back(longest_common_prefix(self.prefix.tokens, tokens))
        return self.prefix


def messages_for(prompt: str, system: str | None, earlier: Sequence[Message] = ()) -> list[Message]:
    """A question behind the `earlier` messages, under the system text where there is one."""
    first = [Message("system", system)] if system else []
    return [*first, *earlier, Message("user", prompt)]
