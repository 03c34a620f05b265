"""Chat's commands about the form of answers: a schema that they satisfy, tools that they call."""

from dataclasses import replace
from pathlib import Path

from ..answer.form import GivenForm, GivenOption, read_schema, read_tools
from ..terminal.streams import say
from .dropped import named_files
from .talk import NONE, Talk

OFF = ("off", NONE)  # behind a command: its part of the form ends


def schema(talk: Talk, argument: str) -> None:
    """Show the form, set the schema of texts, or let them be any."""
    if argument:
        text = GivenOption() if argument in OFF else read_schema(_file(argument))
        talk.form = replace(talk.form, text=text).enforced()
    say(f"form: {described(talk.form)}.")


def tools(talk: Talk, argument: str) -> None:
    """Show the form, declare tools, or take them away."""
    if argument:
        declared = GivenOption() if argument in OFF else read_tools(_file(argument))
        talk.form = replace(talk.form, tools=declared).enforced()
    say(f"form: {described(talk.form)}.")


def _file(argument: str) -> Path:
    """The one file of an argument."""
    files = named_files(argument)
    return files[0] if len(files) == 1 else Path(argument)


def described(form: GivenForm) -> str:
    """A form in a few words."""
    said = [f"{each.kind}, {each.source}" for each in form.given]
    return "; ".join(said) or "none, answers are any text"
