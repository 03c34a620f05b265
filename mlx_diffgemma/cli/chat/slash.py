"""Chat's commands: lines that begin with a slash.

A blank in front makes a question of any line.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from ...conversation.reply import Reply
from ...errors import SettingsError, counted, one_line
from ...generation.settings import MODES
from ...images.clipboard import clipboard_images
from ...images.pixels import Pixels
from ...images.video import Clip
from ...model.memory import sized
from ..answer.turn import summary
from ..errors import ArgumentError
from ..explain import OPTION_OF
from ..terminal.steps import printable
from ..terminal.streams import say, tell
from .dropped import named_files
from .saved import SavedConversation, save
from .talk import Talk

COMMAND = re.compile(r"/(\S*)(.*)", re.DOTALL)
NONE = "-"  # takes a system text or what is attached away
OTHER_NAMES = {"?": "help", "exit": "quit", "bye": "quit", "q": "quit"}
LEAVING = ("exit", "quit")  # lines with which people leave other programs
WITH_IMAGES = " --with-images"  # behind the name of a file that is to hold them itself
MODE_MEANS = {
    "diffusion": "canvas by canvas",
    "ar": "token by token",
    "auto": "what should take less time, canvas by canvas or token by token",
}
ALIKE = 0.7  # a share of letters by which a name is another one typed wrongly
COLUMN = 18  # where the help of a command begins
OPTION = "Option" if sys.platform == "darwin" else "Alt"  # the key's name on the keyboard


class Leave(Exception):  # noqa: N818 - no error
    """The end of a chat, as `/quit` asks for."""


@dataclass(frozen=True)
class Command:
    """The action of a name, given the text behind it."""

    argument: str
    help: str
    run: Callable[[Talk, str], None]


def run_command(talk: Talk, line: str, *, typed: bool) -> bool:
    """Run the command in a line; False for a question, ArgumentError for an unknown name.

    typed: a person has typed the line, for whom `quit` alone leaves too.
    """
    if typed and line.rstrip().lower() in LEAVING:
        raise Leave
    if (found := COMMAND.fullmatch(line)) is None:
        return False
    name, argument = found[1].lower(), found[2].strip()
    name = OTHER_NAMES.get(name, name)
    if name not in COMMANDS:
        raise ArgumentError(_unknown(found[1]))
    if argument and not COMMANDS[name].argument:
        raise ArgumentError(f"/{name} takes nothing behind it, got {argument!r:.40}.")
    COMMANDS[name].run(talk, argument)
    return True


def completions() -> Iterator[str]:
    """The lines that the tab key completes: every command, and words behind one that are few."""
    yield from (f"/{name}" for name in COMMANDS)
    yield from (f"/mode {mode}" for mode in MODES)


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
    say(
        f"Enter asks. {OPTION}-Enter (or Esc, then Enter), Ctrl-J or a backslash at the end of a "
        "line goes on in another one."
    )
    say("An image dropped into a line is attached; Enter alone asks with images and no text.")
    say("A blank in front asks what would be a command, or exit and quit.")
    say("Ctrl-C stops an answer and keeps what is finished, in mode ar every token; Ctrl-D leaves.")


def _system(talk: Talk, argument: str) -> None:
    if argument:
        talk.session.system = None if argument == NONE else argument
    say(f"system text: {one_line(talk.session.system or 'none')}")


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
            tell(printable(line))


def _mode(talk: Talk, argument: str) -> None:
    if argument and argument not in MODES:
        raise ArgumentError(f"/mode takes {', '.join(MODES)} or nothing, got {argument!r:.40}.")
    if argument:
        try:
            talk.set_mode(argument)
        except SettingsError as error:
            raise ArgumentError(error.told({"mode": "/mode"})) from None
    say(f"mode: {talk.settings.mode}, {MODE_MEANS[talk.settings.mode]}.")
    if resting := [typed for n in talk.resting if (typed := OPTION_OF[n]) not in talk.noted]:
        talk.noted.update(resting)
        say(f"note: not used in mode {talk.settings.mode}: {', '.join(resting)}.")


def _image(talk: Talk, argument: str) -> None:
    if argument == NONE:
        say(f"{counted(talk.detach(Pixels), 'image')} removed.")
    else:
        talk.attach(named_files(argument) if argument else clipboard_images())


def _video(talk: Talk, argument: str) -> None:
    if argument == NONE:
        say(f"{counted(talk.detach(Clip), 'video')} removed.")
        return
    files = named_files(argument) if argument else []
    if len(files) != 1:
        raise ArgumentError(f"/video takes one file, or a folder of frames, got {len(files)}.")
    talk.attach(video=files[0])


def _seed(talk: Talk, argument: str) -> None:
    if argument:
        try:
            seed = None if argument == "new" else int(argument)
            talk.settings = replace(talk.settings, seed=seed)
        except ValueError:  # SettingsError, too
            raise ArgumentError(
                f"/seed takes a number from 0 to {2**64 - 1} or new, got {argument!r:.40}."
            ) from None
    seed = talk.settings.seed
    last = f"; the last answer's is {talk.last.seed}" if talk.last else ""
    say(f"seed: {'a new one for each answer' if seed is None else seed}{last}.")


def _stats(talk: Talk, argument: str) -> None:
    used, length = talk.session.context_used, talk.session.context_length
    say(f"context: {used:,} of {length:,} positions ({used / length:.1%})")
    if talk.session.adapter:
        say(f"adapter: {talk.session.adapter}")
    reply = talk.last
    if reply is None:
        say("no answer yet.")
        return
    say(summary(reply))
    for line in _of_modes(reply):
        say(line)
    seconds = reply.seconds
    seen = sum(image.tokens for image in reply.images) + sum(v.tokens for v in reply.videos)
    of_media = f", {seen:,} of them soft" if seen else ""
    say(
        f"prompt {counted(reply.prompt_tokens, 'token')}{of_media}; seconds: prefill "
        f"{seconds.prefill:.2f}, denoise {seconds.denoise:.2f}, commit {seconds.commit:.2f}"
        f"{f', write {seconds.write:.2f}' if reply.mode != 'diffusion' else ''}"
    )
    say(f"peak memory {sized(reply.peak_memory_bytes)}, finish reason {reply.finish_reason}")


def _of_modes(reply: Reply) -> Iterator[str]:
    """A line on canvases, one on tokens written one by one, and those on what chose between."""
    if reply.canvases or reply.mode == "diffusion":
        rate = f", {reply.tokens_per_step:.1f} tokens a step" if reply.tokens_per_step else ""
        steps = ", ".join(map(str, reply.steps)) or "none"
        yield f"{counted(reply.canvases, 'canvas')}, steps {steps}{rate}"
    written = sum(segment.tokens for segment in reply.segments if segment.mode == "ar")
    if written and reply.seconds.write:
        rate = f"{written / reply.seconds.write:.1f} tokens/s"
        yield f"{counted(written, 'token')} by ar, {rate} without the prompt"
    if (router := reply.router) is not None:
        last = router.decisions[-1] if router.decisions else None
        even = f", even at {last.break_even:.1f} steps a canvas" if last else ""
        yield (
            f"auto: {router.step_ms:.1f} ms a step, {router.token_ms:.1f} ms a token "
            f"({router.source}){even}"
        )
    if (lookup := reply.lookup) is not None:
        yield (
            f"lookup: {counted(lookup.drafted, 'token')} drafted, {lookup.accepted:,} accepted, in "
            f"{counted(lookup.passes, 'pass')}"
        )


def _save(talk: Talk, argument: str) -> None:
    name = f" {argument}".removesuffix(WITH_IMAGES).strip()
    if not name:
        raise ArgumentError("/save takes the name of a file.")
    if other := next((word for word in name.split() if word.startswith("--")), None):
        raise ArgumentError(f"/save takes{WITH_IMAGES} and no other option, got {other!r:.40}.")
    try:
        file = Path(name).expanduser()
    except RuntimeError as error:
        raise ArgumentError(
            f"/save {name!r:.40}: no such user's home; put ./ in front of a name with ~."
        ) from error
    session = talk.session
    said = SavedConversation(session.info.path, session.system, tuple(talk.said))
    kept = save(file, said, Path(session.info.path), with_images=argument != name)
    inside = f", which keeps {kept} itself" if kept else ""
    say(f"saved {counted(len(talk.said), 'message')} to {file}{inside}.")


def _reset(talk: Talk, argument: str) -> None:
    talk.session.reset()
    talk.said.clear()
    talk.last = None
    say("a new conversation; system text and model stay.")


def _quit(talk: Talk, argument: str) -> None:
    raise Leave


COMMANDS: dict[str, Command] = {
    "system": Command("[TEXT]", f"shows or sets the system text; {NONE} removes it", _system),
    "image": Command("[FILE...]", "attaches images, or the clipboard's; - removes them", _image),
    "video": Command("FILE", f"attaches a video, or a folder of frames; {NONE} removes it", _video),
    "think": Command("[on|off]", "shows the last thought; lets the model think or not", _think),
    "mode": Command("[MODE]", f"shows or sets the mode: {', '.join(MODES)}", _mode),
    "seed": Command("[N|new]", "shows or sets the seed", _seed),
    "stats": Command("", "numbers of the last answer, and the context used", _stats),
    "save": Command("FILE", f"writes the conversation;{WITH_IMAGES} keeps images in it", _save),
    "reset": Command("", "forgets the conversation", _reset),
    "help": Command("", "shows this", _help),
    "quit": Command("", "leaves, as /exit, /bye and Ctrl-D do", _quit),
}
