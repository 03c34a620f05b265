"""A chat: questions and commands read one by one, each answered before the next."""

from dataclasses import dataclass, field

from ..diffusion.settings import Settings
from ..reply import Reply
from ..session import Session, Turn
from ..text.chat import Message
from ..text.pieces import ANSWER, THINKING
from .answer import Answer
from .errors import FAILED, INTERRUPTED, TERMINATED, Terminated, explain, say
from .picture import Run
from .progress import Bar
from .reading import LineReader, ReadError
from .screen import Screen
from .signals import Interrupts
from .slash import Leave, run_command
from .view import Display, choose_display, open_view

SHOWN_ABOVE = 20  # messages that the live view shows over an answer


@dataclass
class Chat:
    """One conversation at a terminal, or through a pipe."""

    session: Session
    settings: Settings
    reader: LineReader
    think: bool = False
    visual: bool | None = None
    said: list[Message] = field(default_factory=list)
    last: Reply | None = None
    screen: Screen | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    code: int = 0  # of the worst answer so far

    def run(self) -> int:
        """Until the input ends; the exit code. People at a terminal have seen what failed."""
        with self.interrupts:
            try:
                while self._one():
                    pass
            finally:
                self.reader.close()
                if self.screen:
                    self.screen.close()
        return 0 if self.reader.interactive else self.code

    def _one(self) -> bool:
        """One line; False behind the last. Ctrl-C and known errors do not end a chat."""
        try:
            with self.interrupts.allowed():
                line = self.reader.read(self._prompt())
            if line.strip() and not run_command(self, line):
                self._ask(line)
        except (EOFError, Leave):
            return False
        except (BrokenPipeError, ReadError, Terminated):
            raise
        except KeyboardInterrupt:
            if not self.reader.interactive:
                raise
            say("Ctrl-D or /quit leaves.")
        except Exception as error:
            if (known := explain(error)) is None:
                raise
            say(known[0])
            self.code = FAILED
        return True

    def _prompt(self) -> str:
        """How much of the context is used, and the place to type."""
        return f"{self.session.context_used / self.session.context_length:.0%} > "

    def _ask(self, question: str) -> None:
        bar = Bar("reading the prompt")
        turn = self.session.turn(question, settings=self.settings, think=self.think, progress=bar)
        display = choose_display(False, self.visual, puzzle=self.session.task is not None)
        view = open_view(turn, display, self._screen(display), self._above(question))
        try:
            with self.interrupts.allowed():
                code = Answer(turn, display, None, bar, view).run()
        finally:
            self._keep(turn)
        if code == TERMINATED:
            raise Terminated
        if code == INTERRUPTED and not self.reader.interactive:
            self.code = code
            raise Leave
        self.code = self.code or code
        if turn.committed and self.last and self.last.thinking:
            say(f"(a thought of {len(self.last.thinking.split())} words; /think shows it)")

    def _keep(self, turn: Turn) -> None:
        """What is finished of an answer is said."""
        if turn.committed:
            self.said += turn.messages()
            self.last = turn.reply()

    def _screen(self, display: Display) -> Screen | None:
        if display.live and self.screen is None:
            self.screen = Screen()
        return self.screen

    def _above(self, question: str) -> tuple[Run, ...]:
        """The conversation as it stands over the answer, the questions dim."""
        runs: list[Run] = []
        for message in [*self.said[-SHOWN_ABOVE:], Message("user", question)]:
            asked = message.role == "user"
            text = f"{'> ' if asked else ''}{message.content.rstrip()}\n"
            runs.append((text, THINKING if asked else ANSWER))
        return tuple(runs)
