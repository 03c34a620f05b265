"""The input of a chat: a line editor on a terminal, else the lines of standard input.

A line that ends with a backslash goes on in the next. Either reader raises EOFError at the end.
"""

import atexit
import os
import re
import sys
import termios
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ...errors import PromptError
from ..errors import FileError, reason
from ..terminal.keys import in_foreground, typed_ahead
from ..terminal.screen import WAIT_SECONDS, screen_size
from ..terminal.signals import signals_held
from ..terminal.streams import can_draw, is_terminal

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent

CLOSE = b"\x1b[?2004l\x1b[?25h"  # no bracketed paste, and the cursor
CONTINUATION = ". "  # before a line that goes on
MOST_LINE_BYTES = 1 << 24
ESC_SECONDS = 60.0  # Enter may come long after Esc
UNDECODED = re.compile("[\ud800-\udfff]")  # what the editor makes of bytes that it cannot decode


class ReadError(FileError):
    """Standard input failed: there will be no further line."""


class LineReader:
    """A source of questions."""

    interactive: bool

    def read(self, prompt: str) -> str:
        """The question: lines up to the first without a backslash at its end, joined.

        `prompt` stands before it where somebody types it.
        """
        lines = [self.line(prompt)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            try:
                lines.append(self.line(CONTINUATION))
            except EOFError:
                break
        return "\n".join(lines)

    def line(self, prompt: str) -> str:
        """The next line, after a prompt."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the terminal as it was found."""


def open_reader(words: Iterable[str]) -> LineReader:
    """An editor where there is a terminal for one; `words` are completed with the tab key."""
    if is_terminal(sys.stdin) and can_draw(sys.stderr):
        return Editor(words)
    return PlainLines()


class PlainLines(LineReader):
    """Standard input line by line; UTF-8, as every other text."""

    def __init__(self) -> None:
        self.interactive = is_terminal(sys.stdin)

    def line(self, prompt: str) -> str:
        """The next line; a prompt is shown to people only."""
        if sys.stdin is None:
            raise EOFError
        if self.interactive and sys.stderr is not None:  # print would take standard output instead
            print(prompt, end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.buffer.readline(MOST_LINE_BYTES)
        except OSError as error:
            raise ReadError(f"standard input: {reason(error)}; the chat ends.") from error
        if len(line) == MOST_LINE_BYTES:
            raise ReadError(
                f"standard input has a line of {MOST_LINE_BYTES >> 20} MiB or more, expected a "
                "question; the chat ends."
            )
        if not line:
            raise EOFError
        try:
            return line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise _no_utf8(line[error.start]) from error


class Editor(LineReader):
    """A line editor with history: Enter asks, Ctrl-J or Esc and Enter break the line.

    Pasted lines stay one question. It draws on standard error: standard output is for answers.
    """

    interactive = True

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)
        self.session: PromptSession[str] | None = None  # to make one shows the cursor
        self.found = termios.tcgetattr(sys.stdin.fileno())
        atexit.register(self.close)

    def line(self, prompt: str) -> str:
        """The next line, edited; a signal ends the editing, and waits until it has cleaned up.

        The editor's own handler prints a traceback where Ctrl-C comes while it cleans up.
        """
        with signals_held(self._hurry) as arrived:
            while not in_foreground(sys.stdin.fileno()) and not arrived:
                time.sleep(WAIT_SECONDS)  # to set the terminal would stop the process
            self.session = self.session or _prompt_session(self.words)
            with ExitStack() as stack:
                self._take_typed(self.session, stack)
                line = self.session.prompt(
                    prompt, handle_sigint=False, pre_run=lambda: self._end() if arrived else None
                )
        if wrong := UNDECODED.search(line):
            raise _no_utf8(ord(wrong[0]) & 0xFF)
        return line

    def _take_typed(self, session: "PromptSession[str]", stack: ExitStack) -> None:
        """Let the editor begin with what was typed while nothing edited; `stack` ends the taking.

        Until then no key is taken for another. A signal waits: `_hurry` gives the terminal its
        lines back, for a whole one of which a read would wait.
        """
        from prompt_toolkit.input.typeahead import store_typeahead
        from prompt_toolkit.input.vt100_parser import Vt100Parser

        gone = suppress(OSError, termios.error)  # the terminal, as the editor will notice
        with signals_held(), gone:
            typed = stack.enter_context(typed_ahead(sys.stdin.fileno()))
            keys: list[KeyPress] = []
            parser = Vt100Parser(keys.append)
            parser.feed_and_flush(typed.decode("utf-8", "surrogateescape"))
            store_typeahead(session.app.input, keys)

    def _hurry(self) -> None:
        """End the editing where it runs; before that, `pre_run` will.

        Echo is there again from here on: on a terminal that nobody reads, the editor hangs.
        """
        self._restore()
        if self.session and (loop := self.session.app.loop):
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        app = self.session.app if self.session else None
        if app and app.future and not app.future.done():
            app.exit(exception=KeyboardInterrupt, style="class:aborting")

    def _restore(self) -> None:
        """The terminal's state as it was found; in the background it is the shell's."""
        if in_foreground(sys.stdin.fileno()):
            with suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self.found)

    def close(self) -> None:
        """Echo, cursor and pasting as they were: a signal may have ended the editing anywhere."""
        with signals_held(), suppress(OSError):  # the terminal is gone
            self._restore()
            os.write(sys.stderr.fileno(), CLOSE)
        atexit.unregister(self.close)


def _no_utf8(byte: int) -> PromptError:
    return PromptError(f"the line is not UTF-8 (byte 0x{byte:02x}), expected UTF-8.")


def _prompt_session(words: list[str]) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.data_structures import Size
    from prompt_toolkit.output.vt100 import Vt100_Output

    def size() -> Size:
        window = screen_size()
        return Size(rows=window.rows, columns=window.columns)

    session: PromptSession[str] = PromptSession(
        # Asking where the cursor is would wait for terminals that do not answer.
        output=Vt100_Output(sys.stderr, size, term=os.environ.get("TERM"), enable_cpr=False),
        multiline=True,
        key_bindings=_keys(),
        prompt_continuation=_continuation,
        completer=WordCompleter(words, sentence=True),
        complete_while_typing=False,
        reserve_space_for_menu=0,
        enable_suspend=True,  # Ctrl-Z
    )
    session.app.timeoutlen = ESC_SECONDS
    return session


def _continuation(width: int, line: int, wrapped: int) -> str:
    """The mark before a further line, and nothing before the rest of a long one."""
    return "" if wrapped else CONTINUATION


def _keys() -> "KeyBindings":
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def ask(event: "KeyPressEvent") -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("c-j")
    @keys.add("escape", "enter")
    @keys.add("escape", "c-j")
    def break_line(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    return keys
