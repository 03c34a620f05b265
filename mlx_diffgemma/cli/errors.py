"""How a command ends when it does not end well: one line on standard error, and an exit code.

0    done
1    a known error
2    bad arguments
130  interrupted by Ctrl-C, 143 by SIGTERM
141  the reader of standard output went away
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..errors import DiffGemmaError, KernelWarning, SettingsError, is_out_of_memory, one_line

FAILED, BAD_ARGUMENTS, INTERRUPTED, TERMINATED, BROKEN_PIPE = 1, 2, 130, 143, 141

# C0, DEL and C1, which begin escapes and move cursors; a carriage return does before no line break.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")

OPTION_OF = {
    "max_tokens": "--max-tokens",
    "max_denoising_steps": "--steps",
    "entropy_bound": "--entropy-bound",
    "t_min": "--t-min",
    "t_max": "--t-max",
    "stability_threshold": "--stability",
    "confidence_threshold": "--confidence",
    "quantize": "--quantize",
    "group_size": "--group-size",
    "embed_bits": "--embed-bits",
    "attention_bits": "--attention-bits",
    "experts_bits": "--experts-bits",
    "gaps": "--gap",
}
"""A setting's name in Python -> the option a user typed."""


class ArgumentError(DiffGemmaError):
    """Arguments that are missing or do not go together."""


class FileError(DiffGemmaError):
    """A file the user named, or standard output, cannot be read or written."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled like Ctrl-C, so that finished canvases are kept."""


def explain(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code for an error that is no bug; None for a bug."""
    match error:
        case KeyboardInterrupt():
            return "interrupted.", exit_code(error)
        case SettingsError() | ArgumentError():
            return f"error: {with_option_names(str(error))}", BAD_ARGUMENTS
        case DiffGemmaError():
            return f"error: {with_option_names(str(error))}", FAILED
        case _ if is_out_of_memory(error):
            return _out_of_memory(error), FAILED
        case OSError():
            return f"error: {reason(error)}.", FAILED
    return None


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def reason(error: OSError) -> str:
    """What the system says, with the file's name in front where there is one."""
    said = error.strerror or one_line(error)
    return f"{error.filename}: {said}" if error.filename else said


def with_option_names(message: str) -> str:
    """The message with `--steps` for `max_denoising_steps`, and so on."""
    names = "|".join(OPTION_OF)
    return re.sub(
        rf"(?<![\w/.-])({names})(?![\w/.-]\w)", lambda found: OPTION_OF[found[1]], message
    )


def harmless(text: str) -> str:
    """Text with its control characters written as \\x1b and the like; line breaks and tabs stay.

    A terminal would obey them, whether a model, a file or a file's name brings them along.
    """
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(line: str) -> None:
    """One line on standard error, where there is one."""
    if sys.stderr is None:
        return
    try:
        print(harmless(one_line(line)), file=sys.stderr, flush=True)
    except OSError:  # nobody reads it; the exit code still tells
        detach(sys.stderr)


@contextmanager
def kernel_warnings_said() -> Iterator[None]:
    """Shows a KernelWarning as one line, whatever filters are set; other warnings as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", KernelWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, KernelWarning):
                say(f"warning: {message}")
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def flushed(code: int) -> int:
    """The exit code once all that was printed is written: Python's own flush at exit says 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        detach(sys.stdout)
        if isinstance(error, BrokenPipeError):
            code = code or BROKEN_PIPE
        elif code == 0:
            say(f"error: standard output: {reason(error)}.")
            code = FAILED
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        detach(sys.stderr)
    return code


def detach(stream: TextIO | None) -> None:
    """Points a broken stream to nowhere: Python flushes it once more when it exits."""
    if stream is None:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except OSError:  # no file behind it, as in tests: nothing to flush into
        return


def _out_of_memory(error: BaseException) -> str:
    said = one_line(error)
    return (
        f"error: out of memory{f' ({said[:120]})' if said else ''}; take a smaller quantisation, a "
        "shorter prompt or a lower --max-tokens."
    )
