"""What a chat has come to: what was asked and answered, and how the next question is answered."""

from dataclasses import dataclass, field

from ...conversation.reply import Reply
from ...conversation.session import Session
from ...conversation.turn import Turn
from ...diffusion.settings import Settings
from ...errors import FitError, PromptError
from ...model.text import Progress
from ...text.chat import Message
from ...text.pieces import ANSWER, THINKING
from ..terminal.picture import Run

TOO_LONG = (
    "The whole conversation is in the prompt: /save FILE keeps it, /reset begins another one."
)
SHOWN_ABOVE = 20  # messages that the live view shows over an answer


@dataclass
class Talk:
    """A session as chat's commands see it."""

    session: Session
    settings: Settings
    think: bool = False
    said: list[Message] = field(default_factory=list)
    last: Reply | None = None

    def prompt(self) -> str:
        """How much of the context is used, and the place to type."""
        return f"{self.session.context_used / self.session.context_length:.0%} > "

    def turn(self, question: str, progress: Progress) -> Turn:
        """The question about to be answered; an error says what to do with a long conversation."""
        try:
            return self.session.turn(
                question, settings=self.settings, think=self.think, progress=progress
            )
        except (PromptError, FitError) as error:
            if not self.session.history:
                raise
            raise type(error)(f"{error} {TOO_LONG}") from error

    def keep(self, turn: Turn) -> None:
        """What is finished of an answer is said."""
        if turn.committed:
            self.said += turn.messages()
            self.last = turn.reply()

    def above(self, question: str) -> tuple[Run, ...]:
        """The conversation as it stands over the answer, the questions dim."""
        runs: list[Run] = []
        for message in [*self.said[-SHOWN_ABOVE:], Message("user", question)]:
            asked = message.role == "user"
            text = f"{'> ' if asked else ''}{message.content.rstrip()}\n"
            runs.append((text, THINKING if asked else ANSWER))
        return tuple(runs)
