"""The forms of an example in a line of JSON, as mlx-lm takes them.

`messages` with `tools` beside them, `prompt` and `completion`, or `text`; the first that is there,
in the order completion, messages, text. Of several answers the last one is learned, the others are
part of its prompt. `images` are paths from the folder of the file, for the parts of type image that
name none, or in front of the first user's text. `skill` names a group of examples; `think` asks for
a thought, which otherwise an answer that has one does.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, brief, counted
from ..images.pixels import Pixels
from ..machine.files import parse_json
from ..text.exchange import THOUGHT_KEYS, Dialogue, name_of_tool

ROLES = ("system", "user", "assistant", "tool")
BEHIND = {  # the roles that may stand behind one
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool", "user"),
    "tool": ("tool", "assistant", "user"),
}
FORMS = {
    "completion": ("prompt", "completion", "tools", "images", "think"),
    "messages": ("messages", "tools", "images", "think"),
    "text": ("text",),
}
IMAGE_KEYS = ("path", "url", "image")

OpenImage = Callable[[str], Pixels]
Message = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """An example: a dialogue, or a text; unused: keys of the line that nothing reads."""

    content: Dialogue | str
    skill: str | None
    unused: tuple[str, ...]


def read_form(values: Mapping[str, Any], open_image: OpenImage) -> Form:
    """The example in a line's object; DataError for what is none."""
    name = next((name for name in FORMS if name in values), None)
    if name is None:
        raise DataError(
            f"the keys {', '.join(map(brief, values)) or 'of nothing'}, expected messages, prompt "
            "and completion, or text."
        )
    unused = tuple(key for key in values if key not in (*FORMS[name], "skill"))
    skill = _optional(values, "skill", str)
    skill = None if skill is None else sys.intern(skill)
    if name == "text":
        return Form(_filled(values, "text"), skill, unused)
    return Form(_Reader(values, open_image).dialogue(name), skill, unused)


def folder_of(file: Path) -> Callable[[str], str]:
    """The path of an image that a line of `file` names."""
    return lambda path: str(file.parent / path) if "://" not in path else path


@dataclass
class _Reader:
    """A line that holds a dialogue; images: those opened so far, in order."""

    values: Mapping[str, Any]
    open_image: OpenImage
    images: list[Pixels] = field(default_factory=list)

    def dialogue(self, form: str) -> Dialogue:
        beside = self._paths()
        messages = self._pair() if form == "completion" else self._messages()
        _require_order(messages)
        self._place(messages, beside)
        think = _optional(self.values, "think", bool)
        return Dialogue(messages, self._tools(), tuple(self.images), think)

    def _pair(self) -> list[Message]:
        if "prompt" not in self.values:
            raise DataError("completion without prompt, expected both.")
        prompt = self._content(self.values["prompt"], "prompt")
        completion = _filled(self.values, "completion")
        return [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]

    def _messages(self) -> list[Message]:
        given = self.values["messages"]
        if not isinstance(given, list) or not given:
            raise DataError(f"messages is {brief(given)}, expected a list of messages.")
        return [self._message(number, each) for number, each in enumerate(given, 1)]

    def _message(self, number: int, given: Any) -> Message:
        place = f"message {number}"
        if not isinstance(given, dict):
            raise DataError(f"{place} is {brief(given)}, expected an object with role and content.")
        if (role := given.get("role")) not in ROLES:
            raise DataError(f"{place} has the role {brief(role)}, expected {_either(ROLES)}.")
        message = {**given}
        if calls := given.get("tool_calls"):
            message["tool_calls"] = _calls(calls, place)
        if role == "tool" and isinstance(given.get("content"), dict):
            return message
        if given.get("content") is None and calls:
            return {**message, "content": ""}
        for key in THOUGHT_KEYS:
            _optional(given, key, str, place)
        message["content"] = self._content(given.get("content"), f"the content of {place}")
        return message

    def _content(self, given: Any, place: str) -> Any:
        """A text, or a list of parts as templates take them."""
        if isinstance(given, str):
            return given
        if not isinstance(given, list) or not given:
            raise DataError(f"{place} is {brief(given)}, expected a text or a list of parts.")
        return [_part(part, place) for part in given]

    def _paths(self) -> list[str]:
        given = self.values.get("images") or []
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(path, str) for path in given):
            raise DataError(f"images is {brief(given)}, expected a list of paths.")
        return given

    def _place(self, messages: list[Message], beside: list[str]) -> None:
        """Open every image; those beside the messages stand for the parts that name none."""
        parts = list(_image_parts(messages))
        unnamed = [part for part in parts if "path" not in part]
        if beside and not unnamed:
            user = next(each for each in messages if each["role"] == "user")
            unnamed = [{"type": "image"} for _ in beside]
            text = user["content"]
            text = [{"type": "text", "text": text}] if isinstance(text, str) else text
            user["content"] = [*unnamed, *text]
            parts = list(_image_parts(messages))
        if len(unnamed) != len(beside):
            raise DataError(
                f"{counted(len(beside), 'path')} in images for "
                f"{counted(len(unnamed), 'part')} of type image without one, expected as many."
            )
        for part, path in zip(unnamed, beside, strict=True):
            part["path"] = path
        self.images = [self.open_image(part.pop("path")) for part in parts]

    def _tools(self) -> Sequence[Mapping[str, object]]:
        given = self.values.get("tools") or []
        if not isinstance(given, list):
            raise DataError(f"tools is {brief(given)}, expected a list of declarations.")
        for number, tool in enumerate(given, 1):
            if not isinstance(tool, dict) or not name_of_tool(tool):
                raise DataError(f"tool {number} is {brief(tool)}, expected an object with a name.")
        return given


def _part(given: Any, place: str) -> dict[str, Any]:
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text" and isinstance(given.get("text"), str):
        return {"type": "text", "text": given["text"]}
    if kind != "image":
        raise DataError(
            f"{place} has the part {brief(given)}, expected an object of type text, with text, or "
            "of type image, with path."
        )
    paths = [given[key] for key in IMAGE_KEYS if given.get(key) is not None]
    if not paths:
        return {"type": "image"}
    if not isinstance(paths[0], str):
        raise DataError(f"{place} has the image {brief(paths[0])}, expected a path.")
    return {"type": "image", "path": paths[0]}


def _image_parts(messages: list[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message["content"], list):
            yield from (part for part in message["content"] if part["type"] == "image")


def _calls(given: Any, place: str) -> list[dict[str, Any]]:
    """Calls with their arguments as an object, which templates write."""
    if not isinstance(given, list):
        raise DataError(f"the tool_calls of {place} are {brief(given)}, expected a list.")
    return [_call(call, place) for call in given]


def _call(given: Any, place: str) -> dict[str, Any]:
    about = given.get("function", given) if isinstance(given, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("name"), str):
        raise DataError(f"{place} has the tool call {brief(given)}, expected one with a name.")
    arguments = about.get("arguments") or {}
    if isinstance(arguments, str):  # as OpenAI's interface has them
        try:
            arguments = parse_json(arguments.encode())
        except ValueError:
            arguments = about["arguments"]
    if not isinstance(arguments, dict):
        raise DataError(
            f"{place} calls {about['name']} with the arguments {brief(arguments)}, expected an "
            "object."
        )
    about = {**about, "arguments": arguments}
    return {**given, "function": about} if "function" in given else about


def _require_order(messages: list[Message]) -> None:
    """DataError for roles that do not follow one another, and for no answer at the end."""
    before = None
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role not in BEHIND[before]:
            behind = f"behind {'a call' if before == 'call' else before}" if before else "first"
            raise DataError(
                f"message {number} is of the role {role}, {behind}, expected "
                f"{_either(BEHIND[before])}."
            )
        before = "call" if role == "assistant" and message.get("tool_calls") else role
    last = messages[-1]
    if last["role"] != "assistant":
        raise DataError(
            f"the last message is of the role {last['role']}, expected assistant: the answer to "
            "learn."
        )
    if not _says(last):
        raise DataError("the last message is empty, expected an answer to learn.")


def _says(message: Message) -> bool:
    content = message["content"]
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return bool(content.strip() or message.get("tool_calls"))


def _filled(values: Mapping[str, Any], key: str) -> str:
    text = values[key]
    if not isinstance(text, str):
        raise DataError(f"{key} is {brief(text)}, expected a text.")
    if not text.strip():
        raise DataError(f"{key} is empty, expected a text to learn.")
    return text


def _optional(values: Mapping[str, Any], key: str, kind: type, place: str = "") -> Any:
    if (value := values.get(key)) is not None and not isinstance(value, kind):
        expected = "true or false" if kind is bool else "a text"
        of = f" of {place}" if place else ""
        raise DataError(f"{key}{of} is {brief(value)}, expected {expected}.")
    return value


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
