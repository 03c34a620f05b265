"""One turn on its way to the terminal, a pipe or a file; nothing that is finished is ever lost."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

from ...conversation.form import strain_of
from ...conversation.reply import Reply
from ...conversation.turn import Turn
from ...errors import counted
from ...generation.frame import Frame
from ..errors import FAILED, exit_code
from ..options import OutputOptions
from ..record.trace import Trace
from ..terminal.output import Printer, shows_markdown, write_json
from ..terminal.progress import Bar
from ..terminal.screen import open_screen
from ..terminal.signals import raise_lost
from ..terminal.steps import View
from ..terminal.streams import say
from ..terminal.view import Display, choose_display, open_view
from .advice import after_cut, kept_words, refusal
from .draft import Draft, show_draft
from .media import show_media, show_read


@dataclass
class Answer:
    """A turn that is run and shown; `run` gives the exit code.

    keep_draft: after an interrupt or an error, the canvas in work belongs to the answer. in_chat:
    the next question may follow. strict: a form that strains the model is a failure. look: called
    behind each frame.
    """

    turn: Turn
    display: Display
    trace: Trace | None
    bar: Bar
    view: View
    printer: Printer
    keep_draft: bool = False
    in_chat: bool = False
    strict: bool = False
    look: Callable[[Frame], None] = lambda frame: None

    def __post_init__(self) -> None:
        self.draft = Draft(self.turn)
        self.shown_calls = len(self.turn.reply().tool_calls) if self.turn.begun else 0

    def run(self) -> int:
        """The whole answer, or after an interrupt or an error what there is of it."""
        try:
            self._take_frames()
        except KeyboardInterrupt as interrupt:
            self._show_unfinished()
            say(f"interrupted: {kept_words(self.turn.kept, self.turn.settings.mode)}.")
            return exit_code(interrupt)
        except BrokenPipeError:
            raise
        except Exception:  # Metal's out of memory, which is a RuntimeError, among them
            if self.turn.kept or self.draft.text():
                self._show_unfinished()
            raise
        self._show()
        return self._verdict()

    def _take_frames(self) -> None:
        if self.trace:
            self.trace.begin(self.turn)
        with self.bar, self.view:  # gone before anything else is said
            for frame in self.turn:
                raise_lost()
                if self.trace:
                    self.trace.write(frame)
                self.draft.take(frame)
                self.view.step(frame)
                if self.display.streaming:
                    self._stream(frame)
                self.look(frame)

    def _stream(self, frame: Frame) -> None:
        """Print what is certain of the text: canvas by canvas, or token by token."""
        if frame.committed or frame.mode == "ar":
            self.printer.add(self.turn.fresh().text)

    def _show(self) -> None:
        """JSON always; text where there is some, and a puzzle's only where it is solved.

        Behind the text each call of a tool is a line of JSON. A trace on standard output holds the
        answer and stands alone there.
        """
        if self.trace and self.trace.file.is_stdout:
            return
        if self.display.json:
            write_json(self.turn.reply().to_json())
        elif self.turn.kept and self.turn.problem() is None:
            reply = self.turn.reply()
            self.printer.finish(reply.text)
            for call in reply.tool_calls[self.shown_calls :]:
                write_json(asdict(call))

    def _show_unfinished(self) -> None:
        """Show the finished part, and behind it the canvas in work, which is called a draft."""
        text = self.draft.text()
        if text and self.keep_draft:
            self.printer.finish(self.turn.reply().text + text)
            say(f"the answer ends with a draft: {self.draft.place()}.")
            return
        self._show()
        if text and (self.display.visual or not self.display.json):
            show_draft(self.draft, text)

    def _verdict(self) -> int:
        """Say what is wrong with a solution or a text, and that one was cut, unless JSON does."""
        strain = strain_of(self.turn.constraint_info)
        of_strain = "error" if self.strict else "warning"
        for remark in self.turn.remarks:
            say(f"{of_strain if remark == strain else 'note'}: {remark}")
        if line := refusal(self.turn, self.in_chat):
            say(f"error: {line}")
            return FAILED
        cut = None if self.turn.task or self.display.json else after_cut(self.turn, self.in_chat)
        if cut:
            say(cut)
        return FAILED if strain and self.strict else 0


def show_turn(
    turn: Turn,
    output: OutputOptions,
    trace: Trace | None,
    bar: Bar,
    ending: str = "",
    *,
    strict: bool = False,
) -> int:
    """One turn from its first step to the last line about it; the exit code.

    ending: what the Printer ends a text with, but not a puzzle's solution; strict: see Answer.
    """
    for note in turn.notes:
        say(f"note: {note}")
    traced = trace is not None and trace.file.is_stdout
    display = choose_display(turn, output.as_json or traced, output.visual)
    if traced:  # its lines may be seen as they come
        display = replace(display, passing=False)
    if display.visual:
        show_media(turn.question.media)
    show_read(turn)
    printer = open_printer(turn, display, plain=output.plain, ending=ending)
    view = open_view(turn, display, partial(open_screen, output))
    answer = Answer(turn, display, trace, bar, view, printer, output.keep_draft, strict=strict)
    code = answer.run()
    if display.visual and turn.finished:
        say(summary(turn.reply()))
    return code


def open_printer(turn: Turn, display: Display, *, plain: bool, ending: str = "") -> Printer:
    """The Printer of a turn: Markdown where a text is printed whole on a terminal.

    What is printed as it comes is never taken back, so it stays as it was written; so do solutions
    of puzzles, answers with a form, and those to a prompt that is taken as it is.
    """
    of_other_kind = turn.raw or turn.task is not None or turn.form is not None
    as_written = plain or display.streaming or of_other_kind
    return Printer(
        "" if turn.task else ending,
        shown=turn.reply().text if turn.begun else "",
        markdown=not as_written and shows_markdown(),
    )


def summary(reply: Reply) -> str:
    """The numbers of a finished answer, and the seed, which gives the same text again."""
    rate = reply.tokens_per_second
    speed = f", {rate:.1f} tokens/s" if rate else ""
    cut = ", cut at --max-tokens" if reply.finish_reason == "length" else ""
    return (
        f"{counted(reply.generated_tokens, 'token')} in {reply.seconds.total:.1f} s{speed}, "
        f"{_way(reply)}{cut}, seed {reply.seed}"
    )


def _way(reply: Reply) -> str:
    """The way that an answer came: "33 steps", "ar", or of mode auto what there was of both."""
    steps = counted(sum(reply.steps), "step")
    if reply.mode != "auto":
        return "ar" if reply.mode == "ar" else steps
    tokens = sum(segment.tokens for segment in reply.segments if segment.mode == "ar")
    ways = [steps] if reply.steps else []
    ways += [f"{counted(tokens, 'token')} by ar"] if tokens else []
    return f"auto: {' and '.join(ways)}"
