"""The line editor of a chat: history, completion, a text of several lines, another editor.

It draws on standard error: standard output is for answers.
"""

import atexit
import os
import re
import sys
import termios
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...errors import DiffGemmaError
from ..explain import explain
from ..terminal.keys import in_foreground, typed_ahead
from ..terminal.screen import WAIT_SECONDS, screen_size
from ..terminal.signals import signals_held
from ..terminal.streams import say
from .external import edited
from .reader import CONTINUATION, LineReader, is_closed, is_quoted, no_utf8

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent

    from .history import KeptHistory

CLOSE = b"\x1b[?2004l\x1b[?25h"  # no bracketed paste, and the cursor
ESC_SECONDS = 60.0  # Enter may come long after Esc
UNDECODED = re.compile("[\ud800-\udfff]")  # what the editor makes of bytes that it cannot decode


@dataclass(frozen=True)
class Unfinished:
    """A text that is to go on in another editor."""

    text: str


class Editor(LineReader):
    """A line editor with history: Enter asks, Ctrl-J or Esc and Enter break the line.

    Between three quotes Enter breaks it, too. Pasted lines stay one question. Ctrl-G takes the text
    to another editor. history: the file of lines typed in earlier chats.
    """

    interactive = True

    def __init__(self, words: Iterable[str], history: Path | None = None) -> None:
        self.words = list(words)
        self.history = _kept(history)
        self.session: PromptSession[str] | None = None  # to make one shows the cursor
        self.found = termios.tcgetattr(sys.stdin.fileno())
        self._say_note()
        atexit.register(self.close)

    def wait(self, arrived: Sequence[int] = ()) -> None:
        """Wait for the foreground: to set the terminal before would stop the process.

        A held signal that has `arrived` ends it.
        """
        while not in_foreground(sys.stdin.fileno()) and not arrived:
            time.sleep(WAIT_SECONDS)

    def line(self, prompt: str) -> str:
        """The next line, edited, here or in another editor."""
        line = self._line(prompt, "")
        while isinstance(line, Unfinished):
            line = self._line(prompt, _continued(line.text))
        if wrong := UNDECODED.search(line):
            raise no_utf8(ord(wrong[0]) & 0xFF)
        return line

    def _line(self, prompt: str, text: str) -> str | Unfinished:
        """A line that begins with `text`, edited here.

        A signal ends the editing, and waits until it has cleaned up: the editor's own handler
        prints a traceback where Ctrl-C comes while it cleans up.
        """
        with signals_held(self._hurry) as arrived:
            self.wait(arrived)
            self.session = self.session or _prompt_session(self.words, self.history)
            self.session.app.erase_when_done = False
            with ExitStack() as stack:
                self._take_typed(self.session, stack)
                line = self.session.prompt(
                    prompt,
                    default=text,
                    handle_sigint=False,
                    pre_run=lambda: self._end() if arrived else None,
                )
        self._say_note()
        return cast("str | Unfinished", line)

    def _say_note(self) -> None:
        """Say what is wrong with the history, which must wait while a line is drawn."""
        if self.history and self.history.note:
            say(self.history.note)
            self.history.note = ""

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


def _kept(file: Path | None) -> "KeptHistory | None":
    from .history import KeptHistory  # brings prompt_toolkit along

    return None if file is None else KeptHistory(file)


def _continued(text: str) -> str:
    """The text as another editor leaves it; as it was where that fails, which is said."""
    try:
        return edited(text)
    except (DiffGemmaError, OSError) as error:
        line, _ = explain(error) or ("", 0)
        say(line)
        return text


def _prompt_session(words: list[str], history: "KeptHistory | None") -> "PromptSession[str]":
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
        history=history,
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
    from prompt_toolkit.filters import is_searching
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()
    editing = ~is_searching  # with Ctrl-R, Enter takes what was found

    @keys.add("enter", filter=editing)
    def ask(event: "KeyPressEvent") -> None:
        text = event.current_buffer.text
        if is_quoted(text) and not is_closed(text):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("c-j", filter=editing)
    @keys.add("escape", "enter", filter=editing)
    @keys.add("escape", "c-j", filter=editing)
    def break_line(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-g", filter=editing)
    def go_on_elsewhere(event: "KeyPressEvent") -> None:
        event.app.erase_when_done = True
        event.app.exit(result=Unfinished(event.current_buffer.text))

    return keys
