"""Chat's commands about the conversation: its system text, its last exchange, its file."""

from pathlib import Path

from ...errors import counted, one_line
from ..errors import ArgumentError
from ..terminal.markdown import code_blocks
from ..terminal.streams import say
from . import saved
from .clipboard import copy as copy_text
from .external import edited
from .kept import in_words
from .talk import NONE, Request, Talk

WITH_IMAGES = " --with-images"  # behind the name of a file that is to hold them itself


def system(talk: Talk, argument: str) -> None:
    """Show, set or remove the system text."""
    if argument:
        talk.set_system(None if argument == NONE else argument)
    say(f"system text: {one_line(talk.session.system or 'none')}")


def retry(talk: Talk, argument: str) -> Request:
    """Ask the last question again, with another seed; its answer takes the last one's place."""
    try:
        return talk.again(int(argument) if argument else None)
    except ValueError:  # SettingsError, too
        raise ArgumentError(
            f"/retry takes a seed from 0 to {2**64 - 1} or nothing, got {argument!r:.40}."
        ) from None


def edit(talk: Talk, argument: str) -> Request | None:
    """Ask the last question as an editor leaves it, in place of the last one."""
    question = talk.last_question()
    text = edited(question.content)
    if text == question.content:
        say("nothing has changed, and nothing was asked; /retry asks it again.")
        return None
    if not text.strip() and not question.media:
        say("the text is empty, and nothing was asked.")
        return None
    return talk.instead(text)


def more(talk: Talk, argument: str) -> Request:
    """Go on with an answer that was cut."""
    return talk.more()


def undo(talk: Talk, argument: str) -> None:
    """Take the last question and its answer back."""
    question = talk.undo()
    text = saved.short(one_line(question.content))
    media = f" with {in_words(question.media)}" if question.media else ""
    say(f'taken back: "{text}"{media} and its answer.')


def copy(talk: Talk, argument: str) -> None:
    """Put the last answer, or its last code block, into the clipboard."""
    if argument not in ("", "code"):
        raise ArgumentError(f"/copy takes code or nothing, got {argument!r:.40}.")
    if not talk.said:
        raise ArgumentError("no answer yet, expected one to copy; ask a question.")
    text = talk.said[-1].content
    if argument:
        blocks = code_blocks(text)
        if not blocks:
            raise ArgumentError("the last answer has no code block; /copy takes it whole.")
        text = blocks[-1]
    say(f"{copy_text(text)}.")


def save(talk: Talk, argument: str) -> None:
    """Write the conversation to a file."""
    name = f" {argument}".removesuffix(WITH_IMAGES).strip()
    if not name:
        raise ArgumentError("/save takes the name of a file.")
    if other := next((word for word in name.split() if word.startswith("--")), None):
        raise ArgumentError(f"/save takes{WITH_IMAGES} and no other option, got {other!r:.40}.")
    file, session = _file("/save", name), talk.session
    said = saved.SavedConversation(session.info.path, session.system, tuple(talk.said))
    kept = saved.save(file, said, Path(session.info.path), with_images=argument != name)
    inside = f", which keeps {kept} itself" if kept else ""
    say(f"saved {counted(len(talk.said), 'message')} to {file}{inside}.")


def _file(command: str, name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ArgumentError(
            f"{command} {name!r:.40}: no such user's home; put ./ in front of a name with ~."
        ) from error


def load(talk: Talk, argument: str) -> None:
    """Go on with a saved conversation in place of this one."""
    if not argument:
        raise ArgumentError("/load takes the name of a file that /save has written.")
    file = _file("/load", argument)
    earlier = saved.load(file)
    talk.restore(earlier.messages, earlier.system)
    say(saved.loaded_line(file, earlier, talk.session.system))


def reset(talk: Talk, argument: str) -> None:
    """Begin another conversation."""
    talk.reset()
    say("a new conversation; system text and model stay.")
