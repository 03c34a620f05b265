"""A conversation as a JSON file: `/save` writes it, `--load` reads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...errors import counted, one_line, shown
from ...images.libraries import require_pillow
from ...machine.files import MOST_BYTES, json_bytes, read_json
from ...text.chat import Message
from ..errors import FileError, reason
from ..record.outfile import STDOUT, Kind, Taken, Wanted, json_object, open_files
from .kept import from_entry, in_words, to_entry

KIND, VERSION = "mlx-diffgemma conversation", 2
OLDER = 1  # without media
SPEAKERS = ("user", "assistant")
SHOWN = 60  # characters of a text that a line repeats
CONVERSATION = Kind("saved conversation", lambda file: json_object(file).get("kind") == KIND)
KEYS = {"kind", "version", "model", "system", "messages"}
MESSAGE_KEYS = {OLDER: {"role", "content"}, VERSION: {"role", "content", "media"}}


@dataclass(frozen=True)
class SavedConversation:
    """The content of a saved conversation; `model` is for people: any model may go on with it."""

    model: str
    system: str | None
    messages: tuple[Message, ...]


def save(
    file: Path,
    conversation: SavedConversation,
    model: Path | None = None,
    *,
    with_images: bool = False,
) -> str:
    """Write all or nothing; another conversation is replaced, but no other file.

    model: its folder, in which nothing is saved. Standard output is for answers. with_images: keep
    all images and videos in the file; else those alone that no file gives back. Returns the number
    of those kept, in words.
    """
    messages = [_entry(message, with_images) for message in conversation.messages]
    content = {"kind": KIND, "version": VERSION, **vars(conversation), "messages": messages}
    written = json_bytes(content, indent=1)
    if len(written) > MOST_BYTES:
        raise FileError(
            f"{file}: the conversation takes {len(written) >> 20:,} MiB with what is kept of its "
            f"images, expected at most {MOST_BYTES >> 20:,}; save it without --with-images."
        )
    taken = [Taken("the answers", STDOUT)]
    if model is not None:
        taken.append(Taken("the model's folder", model))
    wanted = Wanted("/save", file, CONVERSATION, may_overwrite=False)
    with open_files([wanted], taken) as (out,):
        assert out is not None
        out.write(written)
        out.finish()
    return in_words(
        [
            medium
            for message, entry in zip(conversation.messages, messages, strict=True)
            for medium, each in zip(message.media, entry["media"], strict=True)
            if each["pictures"] is not None
        ]
    )


def _entry(message: Message, with_images: bool) -> dict[str, Any]:
    media = [to_entry(medium, keep=with_images) for medium in message.media]
    return {"role": message.role, "content": message.content, "media": media}


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
    if (version := content.get("version")) not in (OLDER, VERSION) or isinstance(version, bool):
        _refuse(file, f"has version {version!r:.40}, expected {OLDER} or {VERSION}")
    if content.keys() != KEYS:
        wrong = ", ".join(sorted(content.keys() ^ KEYS))
        _refuse(file, f"has missing or unknown keys: {shown(wrong)}")
    if not isinstance(content["messages"], list):
        _refuse(file, "has no list of messages")
    numbered = enumerate(content["messages"], 1)
    messages = tuple(_message(file, n, entry, MESSAGE_KEYS[version]) for n, entry in numbered)
    system = content["system"]
    if not (system is None or isinstance(system, str)) or not isinstance(content["model"], str):
        _refuse(file, "has a system text or a model that is no text")
    return SavedConversation(content["model"], system, messages)


def loaded_line(file: Path, conversation: SavedConversation, system: str | None) -> str:
    """One line on what has been loaded; `system` is the text that holds from here on."""
    text = conversation.system
    shown = "no system text" if text is None else f'system text "{short(text)}"'
    replaced = "" if system == text else ", which --system replaces"
    count, model = counted(len(conversation.messages), "message"), conversation.model
    if media := [medium for message in conversation.messages for medium in message.media]:
        count += f" with {in_words(media)}"
    return f"loaded {file}: {count}, saved with {model}, {shown}{replaced}."


def short(text: str) -> str:
    """The beginning of a text, as a line repeats it."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _message(file: Path, number: int, entry: Any, keys: set[str]) -> Message:
    whole = isinstance(entry, dict) and entry.keys() == keys
    if not (whole and entry["role"] in SPEAKERS and isinstance(entry["content"], str)):
        _refuse(file, f"has a message {number} that is not {', '.join(sorted(keys))}")
    media = entry.get("media", [])
    if not isinstance(media, list) or (media and entry["role"] != "user"):
        _refuse(file, f"has a message {number} whose media are no list, or not the user's")
    if media:
        require_pillow()
    try:
        return Message(entry["role"], entry["content"], tuple(map(from_entry, media)))
    except ValueError as error:  # ImageError, too
        _refuse(file, f"has a message {number} with {one_line(error).removesuffix('.')}")


def _refuse(file: Path, what: str) -> NoReturn:
    raise FileError(f"{file} {what}; save it again with /save.")
