"""What a session holds: a loaded model, and one conversation with its live cache.

The keys and values of what has been encoded are kept. A further question goes back to the longest
token prefix that old and new prompt share, and encodes exactly the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..assets import Task
from ..errors import PromptError
from ..machine.choices import Choices
from ..model.cache import Prefix
from ..model.text import Model
from ..text.chat import Message, longest_common_prefix
from ..text.tokenizer import Tokenizer
from .reply import ModelInfo


def any_context(context: int) -> None:
    """Checks nothing: the user takes the risk."""


@dataclass
class SessionState:
    """A model, its tokenizer, and what has been said and encoded."""

    model: Model
    tokenizer: Tokenizer
    info: ModelInfo
    task: Task | None = None
    load_seconds: float = 0.0
    dropped: tuple[str, ...] = ()
    tuned: Choices | None = None
    require_room: Callable[[int], None] = any_context  # FitError for positions beyond the memory
    system: str | None = None
    history: list[Message] = field(default_factory=list)
    prefix: Prefix | None = None

    def reset(self) -> None:
        """Forgets the conversation and its cache; the model and the system text stay."""
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

    @property
    def context_used(self) -> int:
        """Positions that are encoded, of `context_length`; the next question goes behind most."""
        return self.prefix.length if self.prefix else 0

    @property
    def context_length(self) -> int:
        """Positions the model has for prompt and answer."""
        return self.model.config.text.max_position_embeddings

    def messages_with(self, system: str | None, prompt: str) -> list[Message]:
        """The conversation so far and the new question; every puzzle starts a new one."""
        earlier = [] if self.task else self.history
        first = [Message("system", system)] if system else []
        return [*first, *earlier, Message("user", prompt)]

    def rewind(self, tokens: Sequence[int]) -> Prefix:
        """The prefix, gone back to what it shares with `tokens`."""
        if self.prefix is None:
            self.prefix = self.model.new_prefix()
        self.prefix.roll_back(longest_common_prefix(self.prefix.tokens, tokens))
        return self.prefix
