"""The end of a command that does not end well: one line on standard error, and an exit code.

0    done
1    a known error
2    bad arguments
3    `decide --if`: no, and 4 not sure
5    another Mac of the group was lost
130  interrupted by Ctrl-C, 143 by SIGTERM
141  the reader of standard output went away
"""

from ..errors import DiffGemmaError, one_line

FAILED, BAD_ARGUMENTS, LINK_LOST, INTERRUPTED, TERMINATED, BROKEN_PIPE = 1, 2, 5, 130, 143, 141


class ArgumentError(DiffGemmaError):
    """Arguments that are missing or do not go together."""


class FileError(DiffGemmaError):
    """A file the user named, or standard output, cannot be read or written."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled like Ctrl-C, so that finished canvases are kept."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def reason(error: OSError) -> str:
    """The system's words, with the file's name in front where there is one."""
    said = error.strerror or one_line(error)
    return f"{error.filename}: {said}" if error.filename else said
