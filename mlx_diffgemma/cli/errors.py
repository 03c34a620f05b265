"""The end of a command that does not end well: one line on standard error, and an exit code.

0    done
1    a known error
2    bad arguments
130  interrupted by Ctrl-C, 143 by SIGTERM
141  the reader of standard output went away
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import (
    DiffGemmaError,
    KernelWarning,
    SettingsError,
    is_out_of_memory,
    one_line,
)
from .convert.options import PackingOptions
from .options import PromptingOptions, SamplerOptions, TemplateOptions
from .parameters import option_names
from .terminal.streams import say

FAILED, BAD_ARGUMENTS, INTERRUPTED, TERMINATED, BROKEN_PIPE = 1, 2, 130, 143, 141

OPTION_OF = {
    name: typed
    for group in (PromptingOptions, SamplerOptions, TemplateOptions, PackingOptions)
    for name, typed in option_names(group)
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
            return f"error: {error.told(OPTION_OF)}", BAD_ARGUMENTS
        case DiffGemmaError():
            return f"error: {error.told(OPTION_OF)}", FAILED
        case _ if is_out_of_memory(error):
            return _out_of_memory(error), FAILED
        case OSError():
            return f"error: {reason(error)}.", FAILED
    return None


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def reason(error: OSError) -> str:
    """The system's words, with the file's name in front where there is one."""
    said = error.strerror or one_line(error)
    return f"{error.filename}: {said}" if error.filename else said


@contextmanager
def kernel_warnings_said() -> Iterator[None]:
    """Show a KernelWarning as one line, whatever filters are set; other warnings as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", KernelWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *at: Any, **more: Any) -> None:
            if issubclass(category, KernelWarning):
                say(f"warning: {one_line(message)}")
            else:
                usual(message, category, *at, **more)

        warnings.showwarning = show
        yield


def _out_of_memory(error: BaseException) -> str:
    said = one_line(error)
    return (
        f"error: out of memory{f' ({said[:120]})' if said else ''}; take a smaller quantisation, a "
        "shorter prompt or a lower --max-tokens."
    )
