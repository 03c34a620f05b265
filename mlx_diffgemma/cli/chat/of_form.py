"""Chat's commands about the form of answers: a schema that they satisfy, tools that they call."""

from collections.abc import Callable
from pathlib import Path

from ..answer.form import GivenForm, read_schema, read_tools
from ..terminal.streams import say
from .dropped import named_files
from .talk import NONE, Talk

OFF = ("off", NONE)  # behind a command: answers may be any text again


def schema(talk: Talk, argument: str) -> None:
    """Show the form, set a schema's, or take the form away."""
    _set(talk, argument, read_schema)


def tools(talk: Talk, argument: str) -> None:
    """Show the form, declare tools, or take the form away."""
    _set(talk, argument, read_tools)


def _set(talk: Talk, argument: str, read: Callable[[Path], GivenForm]) -> None:
    """What an argument asks for, and then a line on the form that holds."""
    if argument:
        talk.form = GivenForm() if argument in OFF else read(_file(argument))
    say(f"form: {described(talk.form)}.")


def _file(argument: str) -> Path:
    """The one file of an argument."""
    files = named_files(argument)
    return files[0] if len(files) == 1 else Path(argument)


def described(form: GivenForm) -> str:
    """A form in a few words."""
    if form.kind is None:
        return "none, answers are any text"
    return f"{form.kind}, {form.source}"
