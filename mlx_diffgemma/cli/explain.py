"""The line about an error on standard error, with options as they are typed; warnings likewise."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import (
    DiffGemmaError,
    KernelWarning,
    SettingsError,
    ShareError,
    is_out_of_memory,
    one_line,
)
from .convert.options import PackingOptions
from .decide.options import SettingOptions
from .errors import BAD_ARGUMENTS, FAILED, LINK_LOST, ArgumentError, exit_code, reason
from .eval.options import WayOptions
from .finetune.options import AdapterOptions, CourseOptions, DataOptions, PlaceOptions
from .form_options import FormOptions
from .options import MediaOptions, PromptingOptions, TemplateOptions
from .parameters import option_names
from .settings_options import ModeOptions, SamplerOptions
from .terminal.streams import say

OPTION_OF = {
    name: typed
    for group in (
        PromptingOptions,
        MediaOptions,
        ModeOptions,
        SamplerOptions,
        FormOptions,
        TemplateOptions,
        PackingOptions,
        DataOptions,
        AdapterOptions,
        CourseOptions,
        PlaceOptions,
        WayOptions,
        SettingOptions,
    )
    for name, typed in option_names(group)
} | {"soft_tokens": "--image-tokens"}  # as `prepare_image` calls it
"""A setting's name in Python -> the option a user typed."""


def explain(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code for an error that is no bug; None for a bug."""
    match error:
        case KeyboardInterrupt():
            return "interrupted.", exit_code(error)
        case SettingsError() | ArgumentError():
            return f"error: {error.told(OPTION_OF)}", BAD_ARGUMENTS
        case ShareError(lost=True):
            return f"error: {error}", LINK_LOST
        case DiffGemmaError():
            return f"error: {error.told(OPTION_OF)}", FAILED
        case _ if is_out_of_memory(error):
            return _out_of_memory(error), FAILED
        case OSError():
            return f"error: {reason(error)}.", FAILED
    return None


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
