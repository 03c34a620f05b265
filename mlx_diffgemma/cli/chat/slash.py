"""Chat's commands: lines that begin with a slash and a name."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ...model.memory import sized
from ..answer.turn import summary
from ..errors import ArgumentError
from ..terminal.steps import printable
from ..terminal.streams import say
from .saved import SavedConversation, save
from .talk import Talk

COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
NONE = "-"  # takes a system text away


class Leave(Exception):  # noqa: N818 - no error
    """The end of a chat, as `/quit` asks for."""


@dataclass(frozen=True)
class Command:
    """The action of a name, given the text behind it."""

    argument: str
    help: str
    run: Callable[[Talk, str], None]


def run_command(talk: Talk, line: str) -> bool:
    """Run the command in a line; False for a question, ArgumentError for an unknown name."""
    found = COMMAND.fullmatch(line.strip())
    if found is None:
        return False
    name, argument = found[1], (found[2] or "").strip()
    if name not in COMMANDS:
        raise ArgumentError(f"/{name} is no command; /help lists them.")
    if argument and not COMMANDS[name].argument:
        raise ArgumentError(f"/{name} takes nothing behind it, got {argument!r:.40}.")
    COMMANDS[name].run(talk, argument)
    return True


def _help(talk: Talk, argument: str) -> None:
    for name, command in COMMANDS.items():
        _tell(f"/{f'{name} {command.argument}':<17}{command.help}")
    say("Enter asks, Alt-Enter or a backslash at the end goes on in another line.")
    say("Ctrl-C stops an answer and keeps what is finished, Ctrl-D leaves.")


def _system(talk: Talk, argument: str) -> None:
    if argument:
        talk.session.system = None if argument == NONE else argument
    say(f"system text: {talk.session.system or 'none'}")


def _think(talk: Talk, argument: str) -> None:
    if argument in ("on", "off"):
        talk.think = argument == "on"
        say(f"thinking is {argument}.")
    elif argument:
        raise ArgumentError(f"/think takes on, off or nothing, got {argument!r:.40}.")
    elif talk.last is None or talk.last.thinking is None:
        state = "on" if talk.think else "off; /think on changes that"
        say(f"no thought in the last answer; thinking is {state}.")
    else:
        for line in talk.last.thinking.splitlines():
            _tell(line)


def _seed(talk: Talk, argument: str) -> None:
    if argument:
        try:
            seed = None if argument == "new" else int(argument)
        except ValueError:
            raise ArgumentError(f"/seed takes a number or new, got {argument!r:.40}.") from None
        talk.settings = replace(talk.settings, seed=seed)
    seed = talk.settings.seed
    last = f"; the last answer's is {talk.last.seed}" if talk.last else ""
    say(f"seed: {'a new one for each answer' if seed is None else seed}{last}.")


def _stats(talk: Talk, argument: str) -> None:
    used, length = talk.session.context_used, talk.session.context_length
    say(f"context: {used:,} of {length:,} positions ({used / length:.1%})")
    reply = talk.last
    if reply is None:
        say("no answer yet.")
        return
    say(summary(reply))
    per_step = f", {reply.tokens_per_step:.1f} tokens a step" if reply.tokens_per_step else ""
    say(f"{reply.canvases} canvases, steps {', '.join(map(str, reply.steps)) or 'none'}{per_step}")
    seconds = reply.seconds
    say(
        f"prompt {reply.prompt_tokens:,} tokens; seconds: prefill {seconds.prefill:.2f}, "
        f"denoise {seconds.denoise:.2f}, commit {seconds.commit:.2f}"
    )
    say(f"peak memory {sized(reply.peak_memory_bytes)}, finish reason {reply.finish_reason}")


def _save(talk: Talk, argument: str) -> None:
    if not argument:
        raise ArgumentError("/save takes the name of a file.")
    try:
        file = Path(argument).expanduser()
    except RuntimeError as error:
        raise ArgumentError(
            f"/save {argument!r:.40}: no such user's home; put ./ in front of a name with ~."
        ) from error
    session = talk.session
    said = SavedConversation(session.info.path, session.system, tuple(talk.said))
    save(file, said, Path(session.info.path))
    say(f"saved {len(talk.said)} messages to {file}.")


def _reset(talk: Talk, argument: str) -> None:
    talk.session.reset()
    talk.said.clear()
    talk.last = None
    say("a new conversation; system text and model stay.")


def _tell(line: str) -> None:
    """Print a line on standard error, blanks and all; it cannot move the cursor."""
    if sys.stderr is not None:
        print(printable(line), file=sys.stderr, flush=True)


def _quit(talk: Talk, argument: str) -> None:
    raise Leave


COMMANDS: dict[str, Command] = {
    "system": Command("[TEXT]", f"shows or sets the system text; {NONE} removes it", _system),
    "think": Command("[on|off]", "shows the last thought; lets the model think or not", _think),
    "seed": Command("[N|new]", "shows or sets the seed", _seed),
    "stats": Command("", "numbers of the last answer, and the context used", _stats),
    "save": Command("FILE", "writes the conversation; chat --load FILE goes on with it", _save),
    "reset": Command("", "forgets the conversation", _reset),
    "help": Command("", "shows this", _help),
    "quit": Command("", "leaves, as Ctrl-D does", _quit),
}
