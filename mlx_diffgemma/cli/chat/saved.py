"""A conversation as a JSON file: `/save` writes it, `--load` reads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...errors import counted, one_line, shown
from ...machine.files import json_bytes, read_json
from ...text.chat import Message
from ..errors import FileError, reason
from ..record.outfile import STDOUT, Kind, Taken, Wanted, json_object, open_files

KIND, VERSION = "mlx-diffgemma conversation", 1
SPEAKERS = ("user", "assistant")
SHOWN = 60  # characters of a system text
CONVERSATION = Kind("saved conversation", lambda file: json_object(file).get("kind") == KIND)
KEYS = {"kind", "version", "model", "system", "messages"}


@dataclass(frozen=True)
class SavedConversation:
    """The content of a saved conversation; `model` is for people: any model may go on with it."""

    model: str
    system: str | None
    messages: tuple[Message, ...]


def save(file: Path, conversation: SavedConversation, model: Path | None = None) -> None:
    """Write all or nothing; another conversation is replaced, but no other file.

    model: its folder, in which nothing is saved. Standard output is for answers.
    """
    if any(message.media for message in conversation.messages):
        raise FileError(f"{file}: a conversation with images cannot be saved yet; go on without.")
    said = [{"role": said.role, "content": said.content} for said in conversation.messages]
    content = {"kind": KIND, "version": VERSION, **vars(conversation), "messages": said}
    taken = [Taken("the answers", STDOUT)]
    if model is not None:
        taken.append(Taken("the model's folder", model))
    wanted = Wanted("/save", file, CONVERSATION, may_overwrite=False)
    with open_files([wanted], taken) as (out,):
        assert out is not None
        out.write(json_bytes(content, indent=1))
        out.finish()


def load(file: Path) -> SavedConversation:
    """A saved conversation, checked; the order of speakers is the session's to check."""
    try:
        content = read_json(file)
    except OSError as error:
        raise FileError(f"the conversation cannot be read: {reason(error)}.") from error
    except ValueError as error:
        _refuse(file, f"is no JSON ({one_line(error)})")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        _refuse(file, f'is no saved conversation, expected "kind": "{KIND}"')
    if content.get("version") != VERSION:
        _refuse(file, f"has version {content.get('version')!r:.40}, expected {VERSION}")
    if content.keys() != KEYS:
        wrong = ", ".join(sorted(content.keys() ^ KEYS))
        _refuse(file, f"has missing or unknown keys: {shown(wrong)}")
    if not isinstance(content["messages"], list):
        _refuse(file, "has no list of messages")
    messages = tuple(_message(file, n, entry) for n, entry in enumerate(content["messages"], 1))
    system = content["system"]
    if not (system is None or isinstance(system, str)) or not isinstance(content["model"], str):
        _refuse(file, "has a system text or a model that is no text")
    return SavedConversation(content["model"], system, messages)


def loaded_line(file: Path, conversation: SavedConversation, system: str | None) -> str:
    """One line on what has been loaded; `system` is the text that holds from here on."""
    text = conversation.system
    shown = "no system text" if text is None else f'system text "{_short(text)}"'
    replaced = "" if system == text else ", which --system replaces"
    count, model = counted(len(conversation.messages), "message"), conversation.model
    return f"loaded {file}: {count}, saved with {model}, {shown}{replaced}."


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _message(file: Path, number: int, entry: Any) -> Message:
    whole = isinstance(entry, dict) and entry.keys() == {"role", "content"}
    if not (whole and entry["role"] in SPEAKERS and isinstance(entry["content"], str)):
        _refuse(file, f"has a message {number} that is not a role (user, assistant) and a content")
    return Message(entry["role"], entry["content"])


def _refuse(file: Path, what: str) -> NoReturn:
    raise FileError(f"{file} {what}; save it again with /save.")
