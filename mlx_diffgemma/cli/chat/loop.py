"""A chat: questions and commands read one by one, each answered before the next."""

from contextlib import nullcontext
from dataclasses import dataclass, field

from ...errors import counted
from ..answer.media import show_read
from ..answer.turn import Answer, open_printer
from ..errors import FAILED, INTERRUPTED, TERMINATED, Terminated
from ..explain import explain
from ..options import OutputOptions
from ..terminal.progress import Bar
from ..terminal.screen import Screen, open_screen
from ..terminal.signals import Interrupts
from ..terminal.streams import say, tell
from ..terminal.view import choose_display, open_view
from .dropped import read_dropped
from .input import ReadError
from .reader import Entered, LineReader
from .slash import Leave, is_command, run_command
from .switch import ModelGoneError
from .talk import Request, Talk


@dataclass
class Chat:
    """One conversation at a terminal, or through a pipe."""

    talk: Talk
    reader: LineReader
    output: OutputOptions = field(default_factory=OutputOptions)
    screen: Screen | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    code: int = 0  # of the worst answer so far
    strict: bool = False  # a form that strains the model is a failure

    def run(self) -> int:
        """Answer until the input ends; the exit code, 0 for people: they have seen what failed."""
        self.talk.interruptible = self.interrupts.allowed
        self.talk.others.interrupted = self.interrupts.taken
        with self.interrupts:
            try:
                while self._one():
                    pass
                self._say_unasked()
            finally:
                self.reader.close()
                if self.screen:
                    self.screen.close()
                self.talk.others.end()
        return 0 if self.reader.interactive else self.code

    def _one(self) -> bool:
        """Deal with one line; False behind the last. Ctrl-C and known errors do not end a chat."""
        try:
            self.talk.others.rest()
            with self.interrupts.allowed():
                entered = self.reader.read(self.talk.prompt())
            self._take(entered)
        except (EOFError, Leave):
            return False
        except (BrokenPipeError, ModelGoneError, ReadError, Terminated):
            raise
        except KeyboardInterrupt:
            self.talk.others.require_there()
            if not self.reader.interactive:
                raise
            say("Ctrl-D or /quit leaves.")
        except Exception as error:
            self.talk.others.require_survived(error)
            if (known := explain(error)) is None:
                raise
            say(known[0])
            self.code = FAILED
        return True

    def _take(self, entered: Entered) -> None:
        """A line: files that somebody has dropped into it, a command, or a question.

        A line without text asks where something is attached.
        """
        line, typed = entered.text, self.reader.interactive
        if entered.quoted:
            if line.strip() or self.talk.attached:
                self._answer(self.talk.question(line))
            return
        if typed and not is_command(line) and (dropped := read_dropped(line)) is not None:
            self.talk.attach_dropped(dropped)
            if not (line := dropped.text):
                return
        if line.strip() or self.talk.attached:
            request = run_command(self.talk, line, typed=typed)
            if request is not None:
                self._answer(request)

    def _say_unasked(self) -> None:
        """A line on what a pipe attached and did not ask about."""
        if self.talk.attached and not self.reader.interactive:
            count = counted(len(self.talk.attached), "attachment")
            say(f"note: {count} without a question; a line behind it, empty or not, asks.")

    def _opened_screen(self) -> Screen:
        """The one screen of this chat."""
        self.screen = self.screen or open_screen(self.output, keeps_typed=True)
        return self.screen

    def _answer(self, request: Request) -> None:
        bar = Bar("reading the prompt")
        turn = self.talk.turn(request, bar)
        for note in self.talk.new_notes(turn):
            say(f"note: {note}")
        show_read(turn)
        display = choose_display(turn, False, self.output.visual)
        view = open_view(turn, display, self._opened_screen, self.talk.above(request))
        printer = open_printer(turn, display, plain=self.output.plain)
        answer = Answer(
            *(turn, display, None, bar, view, printer, self.output.keep_draft),
            in_chat=True,
            strict=self.strict,
            look=self.talk.others.look_behind,
        )
        try:  # several Macs look for Ctrl-C together
            with nullcontext() if self.talk.others.there else self.interrupts.allowed():
                code = answer.run()
            self.talk.others.rest()
        finally:
            self.talk.keep(request, turn)
        if code == TERMINATED:
            raise Terminated
        if code == INTERRUPTED and not self.reader.interactive:
            self.code = code
            raise Leave
        if code == INTERRUPTED and turn.cut() and turn.said():
            say("/more goes on with it.")
        self.code = self.code or code
        last = self.talk.last
        if turn.kept and last and last.thinking:
            words = counted(len(last.thinking.split()), "word")
            say(f"(a thought of {words}; /think shows it)")
        if self.reader.interactive:
            tell("")  # between two turns
