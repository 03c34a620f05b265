"""One turn on its way to the terminal, a pipe or a file; finished canvases are never lost."""

from dataclasses import dataclass

from ...conversation.reply import Reply
from ...conversation.turn import Turn
from ..errors import FAILED, exit_code
from ..options import OutputOptions
from ..record.trace import Trace
from ..terminal.output import Printer, write_json
from ..terminal.progress import Bar
from ..terminal.screen import screen_size
from ..terminal.steps import View, cut
from ..terminal.streams import say
from ..terminal.view import Display, choose_display, open_view


@dataclass
class Answer:
    """A turn that is run and shown; `run` gives the exit code."""

    turn: Turn
    display: Display
    trace: Trace | None
    bar: Bar
    view: View
    printer: Printer

    def run(self) -> int:
        """The whole answer, or after an interrupt or an error the canvases that are finished."""
        try:
            self._denoise()
        except KeyboardInterrupt as interrupt:
            self._show()
            say(f"interrupted: {_canvases(len(self.turn.committed))} finished.")
            return exit_code(interrupt)
        except Exception:  # Metal's out of memory, which is a RuntimeError, among them
            if self.turn.committed:
                self._show()
            raise
        self._show()
        return self._verdict()

    def _denoise(self) -> None:
        if self.trace:
            self.trace.begin(self.turn)
        with self.bar, self.view:  # gone before anything else is said
            for frame in self.turn:
                if self.trace:
                    self.trace.write(frame)
                self.view.step(frame)
                if frame.committed and self.display.streaming:
                    self.printer.grow(self.turn.reply().text)

    def _show(self) -> None:
        """JSON always; text where there is some, and a puzzle's only where it is solved.

        A trace on standard output holds the answer and stands alone there.
        """
        if self.trace and self.trace.file.is_stdout:
            return
        if self.display.json:
            write_json(self.turn.reply().to_json())
        elif self.turn.committed and self.turn.problem() is None:
            self.printer.finish(self.turn.reply().text)

    def _verdict(self) -> int:
        problem = self.turn.problem()
        if problem is None:
            return 0
        say(f"error: not a valid solution: {problem}; try another --seed.")
        return FAILED


def show_turn(
    turn: Turn, output: OutputOptions, trace: Trace | None, bar: Bar, ending: str = ""
) -> int:
    """One turn from its first step to the last line about it; the exit code.

    ending: what the Printer ends a text with, but not a puzzle's solution.
    """
    data = output.as_json or (trace is not None and trace.file.is_stdout)
    display = choose_display(turn, data, output.visual)
    printer = Printer(turn.settings.stop, "" if turn.task else ending)
    code = Answer(turn, display, trace, bar, open_view(turn, display), printer).run()
    if display.visual and turn.finished:
        say(cut(summary(turn.reply()), screen_size().columns))
    return code


def _canvases(count: int) -> str:
    return f"{count or 'no'} canvas{'' if count == 1 else 'es'}"


def summary(reply: Reply) -> str:
    """The numbers of a finished answer, the seed among them: it gives the same text again."""
    rate = reply.tokens_per_second
    speed = f", {rate:.1f} tokens/s" if rate else ""
    return (
        f"{reply.generated_tokens} tokens in {reply.seconds.total:.1f} s{speed}, "
        f"{sum(reply.steps)} steps, seed {reply.seed}"
    )
