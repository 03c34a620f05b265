"""Standard input that a command does not read: said, and never touched.

`git diff | ... "Write a commit message"` looks as if the diff were part of the prompt. In a shell's
loop, `while read line; do ... "$line"; done < list`, the rest of the list waits in the same place,
and is meant for the shell: then the parent has the same standard input.
"""

import fcntl
import os
import stat
import struct
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..macs.options import ShareOptions
from ..terminal.streams import say
from .prompt import RequiredText, reads_stdin


@contextmanager
def unread_input_said(
    words: Sequence[str], file: Path | None, wanted: RequiredText
) -> Iterator[None]:
    """Say once that data wait in standard input, before the work or, if they come late, after it.

    Nothing is said where the text that is given by words or a file takes them, or an option's file.
    """
    said = wanted.stdin_taken or reads_stdin(words, file) or _say(wanted)
    yield
    if not said:
        _say(wanted)


def without_stdin(
    shared: ShareOptions, words: Sequence[str], file: Path | None, wanted: RequiredText
) -> RequiredText:
    """The text as several Macs read it, which cannot read standard input: ArgumentError.

    A text that may be left out is, where nothing was typed and nothing waits to be read. One Mac
    alone reads as ever.
    """
    if not shared.wanted:
        return wanted
    shared.require_no_stdin(wanted.stdin_taken)
    left_out = wanted.optional and not words and file is None and not has_unread_data()
    shared.require_no_stdin(not left_out and reads_stdin(words, file))
    return replace(wanted, stdin_taken=left_out)


def _say(wanted: RequiredText) -> bool:
    if found := has_unread_data():
        place = f"- beside {wanted.argument}"
        say(f"note: standard input holds data that is not read; {place} adds it.")
    return found


def has_unread_data() -> bool:
    """True where data wait in a pipe or a file that was given to this command alone."""
    try:
        number = sys.stdin.fileno()
        there = os.fstat(number)
        if stat.S_ISFIFO(there.st_mode):
            waiting = struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, bytes(4)))[0] > 0
        else:
            waiting = stat.S_ISREG(there.st_mode) and _place(number) < there.st_size
        return waiting and not _is_the_parents(there)
    except (AttributeError, OSError, ValueError):  # closed, or nothing that the system knows
        return False


def _place(number: int) -> int:
    return os.lseek(number, 0, os.SEEK_CUR)


def _is_the_parents(there: os.stat_result) -> bool:
    """True where the parent may go on to read the same standard input, as a shell's loop does.

    Without Linux's /proc a file counts as the parent's, and so does a pipe where the parent is in
    our process group: a shell gives a pipeline that somebody types a group of its own.
    """
    if os.path.isdir("/proc/self/fd"):
        try:
            return os.path.samestat(there, os.stat(f"/proc/{os.getppid()}/fd/0"))
        except FileNotFoundError:  # the parent has closed its own
            return False
    return stat.S_ISREG(there.st_mode) or os.getpgid(os.getppid()) == os.getpgrp()
