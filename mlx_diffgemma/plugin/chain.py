"""The messages that llm hands over, a whole conversation each time, as our own.

They come from llm's log as well as from this process, and may have been another model's before.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import llm
from llm import Attachment
from llm.parts import AttachmentPart, Message, ReasoningPart, TextPart

from ..errors import ImageError, PromptError, one_line, shown
from .media import VIDEO_TYPES, require_readable

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Seen:
    """Images and at most one video, as `Session.prepared` takes them.

    image_tokens: None without an image, which the number would not concern.
    """

    images: tuple[Any, ...] = ()
    video: Any = None
    image_tokens: int | None = None


@dataclass(frozen=True)
class Said:
    """One message of llm's: its text, and the files attached to it."""

    role: Role
    text: str
    attachments: tuple[Attachment, ...] = ()

    def seen(self, image_tokens: int | None) -> Seen:
        """What is attached; ImageError for what cannot be had, or for a second video."""
        images, videos = list[Any](), list[Any]()
        for attachment in self.attachments:
            kind = _kind(attachment)
            require_readable(kind)
            (videos if kind in VIDEO_TYPES else images).append(_content(attachment))
        if len(videos) > 1:
            raise ImageError(
                f"a question has {len(videos)} videos, expected one at most; ask about each alone."
            )
        video = videos[0] if videos else None
        return Seen(tuple(images), video, image_tokens if images else None)


@dataclass(frozen=True)
class Chain:
    """A conversation: the system text, earlier questions and answers, and the question."""

    system: str | None
    earlier: tuple[Said, ...]
    question: Said


def read_chain(prompt: llm.Prompt) -> Chain:
    """What llm asks; PromptError for messages that this model has no words for.

    A system text beside the conversation's replaces it: llm leaves it out of the messages.
    """
    system, said = prompt.system, list[Said]()
    for number, message in enumerate(prompt.messages, 1):
        if message.role == "system":
            system = prompt.system or _said(number, message).text
        else:
            said.append(_said(number, message))
    if not said or said[-1].role != "user":
        said.append(Said("user", ""))  # refused where every empty prompt is
    return Chain(system or None, tuple(said[:-1]), said[-1])


def _said(number: int, message: Message) -> Said:
    """One message, without its thoughts, which no prompt repeats."""
    texts, attachments = list[str](), list[Attachment]()
    for part in message.parts:
        if isinstance(part, TextPart):
            texts.append(part.text)
        elif isinstance(part, AttachmentPart) and part.attachment is not None:
            attachments.append(part.attachment)
        elif not isinstance(part, ReasoningPart):
            raise _foreign(number, f"a {type(part).__name__}")
    if message.role not in get_args(Role):
        raise _foreign(number, f"the {message.role}'s")
    return Said(cast(Role, message.role), "".join(texts), tuple(attachments))


def _foreign(number: int, found: str) -> PromptError:
    return PromptError(
        f"message {number} of the conversation is {found}, expected a text or an attachment of the "
        "user or the assistant; begin a new conversation."
    )


def _kind(attachment: Attachment) -> str:
    """The MIME type, as llm finds it."""
    return str(attachment.resolve_type())


def _content(attachment: Attachment) -> Any:
    """The path of an attachment, or its bytes, which llm fetches where it is a URL."""
    if attachment.path:
        return attachment.path
    try:
        return attachment.content_bytes()
    except Exception as error:  # of llm's HTTP library, by whatever name
        place = shown(attachment.url or "the attachment")
        raise ImageError(f"{place} cannot be fetched ({one_line(error)[:120]}).") from error
