"""The state of a chat: questions and answers so far, and settings for the next question."""

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
    noted: set[str] = field(default_factory=set)  # what has been said of questions, once a chat

    def prompt(self) -> str:
        """The share of the context that is used, before the place to type."""
        return f"{self.session.context_used / self.session.context_length:.0%} > "

    def turn(self, question: str, progress: Progress) -> Turn:
        """The turn that answers a question; an error says what to do with a long conversation."""
        try:
            return self.session.turn(
                question, settings=self.settings, think=self.think, progress=progress
            )
        except (PromptError, FitError) as error:
            if not self.session.history:
                raise
            raise type(error)(*error.args, " ", TOO_LONG) from error

    def new_notes(self, turn: Turn) -> list[str]:
        """The notes of a turn that none before it had."""
        new = [note for note in turn.notes if note not in self.noted]
        self.noted.update(new)
        return new

    def keep(self, turn: Turn) -> None:
        """Keep the finished part of an answer."""
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
