"""Chat's commands: lines that begin with a slash.

A blank in front makes a question of any line.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from ...generation.settings import MODES
from ..errors import ArgumentError
from ..terminal.streams import say, tell
from . import of_conversation, of_form, of_media, of_model
from .talk import Request, Talk

COMMAND = re.compile(r"/(\S*)(.*)", re.DOTALL)
OTHER_NAMES = {"?": "help", "exit": "quit", "bye": "quit", "q": "quit"}
LEAVING = ("exit", "quit")  # lines with which people leave other programs
ALIKE = 0.7  # a share of letters by which a name is another one typed wrongly
COLUMN = 18  # where the help of a command begins
OPTION = "Option" if sys.platform == "darwin" else "Alt"  # the key's name on the keyboard


class Leave(Exception):  # noqa: N818 - no error
    """The end of a chat, as `/quit` asks for."""


@dataclass(frozen=True)
class Command:
    """The action of a name, given the text behind it; it may want something answered."""

    argument: str
    help: str
    run: Callable[[Talk, str], Request | None]


def run_command(talk: Talk, line: str, *, typed: bool) -> Request | None:
    """What a line wants answered: a question, or what its command makes of it, if anything.

    ArgumentError for an unknown name. typed: a person has typed the line, for whom `quit` alone
    leaves too.
    """
    if typed and line.rstrip().lower() in LEAVING:
        raise Leave
    if (found := COMMAND.fullmatch(line)) is None:
        return talk.question(line)
    name, argument = found[1].lower(), found[2].strip()
    name = OTHER_NAMES.get(name, name)
    if name not in COMMANDS:
        raise ArgumentError(_unknown(found[1]))
    if argument and not COMMANDS[name].argument:
        raise ArgumentError(f"/{name} takes nothing behind it, got {argument!r:.40}.")
    return COMMANDS[name].run(talk, argument)


def completions() -> Iterator[str]:
    """The lines that the tab key completes: every command, and words behind one that are few."""
    yield from (f"/{name}" for name in COMMANDS)
    yield from (f"/mode {mode}" for mode in MODES)
    yield from ("/think on", "/think off", "/seed new", "/copy code", "/schema off", "/tools off")


def is_command(line: str) -> bool:
    """True where a line begins with the name of a command."""
    found = COMMAND.fullmatch(line)
    return found is not None and found[1].lower() in {*COMMANDS, *OTHER_NAMES}


def _unknown(name: str) -> str:
    """The error of a name that is no command, with the nearest one."""
    if "/" in name:
        way = "/help lists them, a blank in front of the line asks it"
        return f"/{name:.80} is no command, and no image that is there; {way}."
    near = get_close_matches(name.lower(), [*COMMANDS, *OTHER_NAMES], 1, ALIKE)
    meant = f"did you mean /{near[0]}? /help lists all" if near else "/help lists them"
    return f"/{name:.40} is no command; {meant}, a blank in front of the line asks it."


def _help(talk: Talk, argument: str) -> None:
    for name, command in COMMANDS.items():
        tell(f"/{f'{name} {command.argument}':<{COLUMN - 1}}{command.help}", COLUMN)
    for line in KEYS:
        say(line)


def _quit(talk: Talk, argument: str) -> None:
    raise Leave


KEYS = (
    f'Enter asks; {OPTION}-Enter, Ctrl-J or \\ at the end goes on; """ begins a text.',
    "A blank in front asks any line. Ctrl-C stops an answer, Ctrl-D leaves.",
)
COMMANDS: dict[str, Command] = {
    "system": Command(
        "[TEXT]", "shows or sets the system text; - removes it", of_conversation.system
    ),
    "image": Command(
        "[FILE...]", "attaches images, or the clipboard's; - removes them", of_media.image
    ),
    "video": Command(
        "FILE", "attaches a video, or a folder of frames; - removes it", of_media.video
    ),
    "schema": Command(
        "[FILE]", "shows the form of answers, or sets a JSON schema; off ends it", of_form.schema
    ),
    "tools": Command(
        "[FILE]", "declares tools that the model may call; off ends it", of_form.tools
    ),
    "retry": Command(
        "[SEED]", "asks the last question again, by a new seed", of_conversation.retry
    ),
    "edit": Command("", "asks the last question as $EDITOR leaves it", of_conversation.edit),
    "more": Command("", "goes on with an answer that was cut", of_conversation.more),
    "undo": Command("", "takes the last question and its answer back", of_conversation.undo),
    "copy": Command(
        "[code]", "the last answer, or its last code block, to the clipboard", of_conversation.copy
    ),
    "think": Command(
        "[on|off]", "shows the last thought; lets the model think or not", of_model.think
    ),
    "mode": Command("[MODE]", f"shows or sets the mode: {', '.join(MODES)}", of_model.mode),
    "seed": Command("[N|new]", "shows or sets the seed", of_model.seed),
    "model": Command("[MODEL]", "shows the model, or goes on with another one", of_model.model),
    "stats": Command("", "numbers of the last answer, and the context used", of_model.stats),
    "save": Command(
        "FILE", "writes the conversation; --with-images keeps images in it", of_conversation.save
    ),
    "load": Command("FILE", "goes on with a saved conversation", of_conversation.load),
    "reset": Command("", "forgets the conversation", of_conversation.reset),
    "help": Command("", "shows this", _help),
    "quit": Command("", "leaves, as /exit, /bye and Ctrl-D do", _quit),
}
