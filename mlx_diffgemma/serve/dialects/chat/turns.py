"""The messages of a request as turns of a conversation, with the images that stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..content import Images, Part, arguments_of, call_of, joined, text_part, tool_turn, unread
from ..fields import Fields, objects_of

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
THOUGHTS = ("reasoning_content", "reasoning")  # an earlier thought, as one server or another has it
DEFAULT_DETAILS = ("auto", None)


@dataclass(frozen=True)
class Conversation:
    """Turns as chat templates take them, their images, and a line for what is not done."""

    turns: tuple[Part, ...]
    images: tuple[bytes, ...]
    warnings: tuple[str, ...]


def read_messages(fields: Fields) -> Conversation:
    """The conversation of a request; Refusal for a message that cannot be one."""
    listed = fields.objects("messages")
    if not listed:
        raise fields.wrong("messages", "a list of at least one message")
    reader = _Reader()
    turns = tuple(reader.turn(message) for message in listed)
    if turns[-1]["role"] == "assistant":
        reader.lines.append("the last message is the assistant's; it is not gone on with.")
    return Conversation(turns, tuple(reader.images.found), tuple(reader.lines))


@dataclass
class _Reader:
    """Findings in the messages so far; names: of the tools called, by the calls' ids."""

    images: Images = field(default_factory=Images)
    names: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def turn(self, message: Fields) -> Part:
        if message.text("role") is None:
            raise message.wrong("role", "a role")
        match message.one_of("role", ROLES):
            case "system" | "developer":
                return {"role": "system", "content": self._texts(message)}
            case "user":
                return {"role": "user", "content": self._content(message)}
            case "assistant":
                return self._assistant(message)
            case "function":
                return self._result(message, message.needed_text("name"))
        return self._result(message, message.needed_text("tool_call_id"))

    def _assistant(self, message: Fields) -> Part:
        turn: Part = {"role": "assistant", "content": ""}
        if message.has("content"):
            turn["content"] = self._texts(message)
        elif message.has("refusal"):
            turn["content"] = message.text("refusal")
        for name in THOUGHTS:
            if thought := message.text(name):
                turn["reasoning_content"] = thought
                break
        calls = [self._call(call) for call in message.objects("tool_calls")]
        if (legacy := message.object("function_call")) is not None:
            calls.append(self._function(legacy.needed_text("name"), legacy))
        return {**turn, "tool_calls": calls} if calls else turn

    def _call(self, call: Fields) -> Part:
        if call.text("type") not in ("function", None):
            raise call.wrong("type", "function")
        return self._function(call.needed_text("id"), call.needed_object("function"))

    def _function(self, key: str, about: Fields) -> Part:
        self.names[key] = about.needed_text("name")
        return call_of(key, self.names[key], arguments_of(about))

    def _result(self, message: Fields, key: str) -> Part:
        """A tool's result; null is none, as tools that return nothing send it."""
        content = self._content(message) if message.has("content") else ""
        if key not in self.names and (name := message.text("name")):
            return tool_turn(key, {key: name}, content)
        if key not in self.names:
            self.lines.append(
                f"{message.path} answers a call that no message before it has; it is read as a "
                "user's."
            )
        return tool_turn(key, self.names, content)

    def _texts(self, message: Fields) -> str | list[Part]:
        return self._content(message, images=False)

    def _content(self, message: Fields, images: bool = True) -> str | list[Part]:
        content = message.value.get("content")
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise message.wrong("content", "a string or a list of parts")
        parts = objects_of(content, message.at("content"))
        return joined([self._part(part, images) for part in parts])

    def _part(self, part: Fields, images: bool) -> Part:
        kind = part.value.get("type")
        if kind == "text":
            return text_part(part)
        if kind == "refusal":
            return text_part(part, "refusal")
        if kind == "image_url" and images:
            return self._image(part)
        raise unread(part, _readable(images))

    def _image(self, part: Fields) -> Part:
        """An image's part: its URL stands in an object, or, of some clients, alone."""
        if isinstance(part.value.get("image_url"), str):
            return self.images.from_url(part, "image_url")
        about = part.needed_object("image_url")
        if (detail := about.text("detail")) not in DEFAULT_DETAILS:
            self.lines.append(
                f"{about.at('detail')} {detail} is not used; diffusion.image_tokens says how many "
                "tokens an image may have."
            )
        return self.images.from_url(about, "url")


def _readable(images: bool) -> Sequence[str]:
    return ("text", "image_url") if images else ("text",)
