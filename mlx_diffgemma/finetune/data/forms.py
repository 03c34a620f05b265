"""The forms of an example in a line of JSON, as mlx-lm takes them.

`messages`, `prompt` and `completion`, or `text`; the first that is there, in the order completion,
messages, text. `tools` stand beside messages, and `images`: paths, for the parts of type image that
name none, or in front of the first user's text. `skill` names a group of examples. `think` asks for
a thought, which otherwise the prompt of an answer with a thought does.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import DataError, brief, counted
from ...text.chat import name_of_tool
from ...text.exchange import Dialogue
from .asking import Asking
from .messages import Message, filled, optional, read_content, read_messages, require_answer

BESIDE = ("tools", "images", "think")
FORMS = {
    "completion": ("prompt", "completion", *BESIDE),
    "messages": ("messages", *BESIDE),
    "text": ("text",),
}


@dataclass(frozen=True)
class Form:
    """An example: a dialogue, or a text; unused: keys of the line that nothing reads."""

    content: Dialogue | str
    skill: str | None
    unused: tuple[str, ...]


def read_form(values: Mapping[str, Any], asking: Asking) -> Form:
    """The example in a line's object; DataError for what is none."""
    there = {key: value for key, value in values.items() if value is not None}
    name = _form_of(there)
    unused = tuple(key for key in there if key not in (*FORMS[name], "skill"))
    skill = optional(there, "skill", str)
    skill = None if skill is None else sys.intern(skill)
    if name == "text":
        return Form(filled(there, "text"), skill, unused)
    return Form(_dialogue(there, name, asking), skill, unused)


def _form_of(there: Mapping[str, Any]) -> str:
    if "prompt" in there and "completion" in there:
        return "completion"
    if (name := next((name for name in ("messages", "text") if name in there), None)) is None:
        got = ", ".join(map(brief, [*there][:8])) or "none with a value"
        raise DataError(f"its keys are {got}, expected messages, prompt and completion, or text.")
    return name


def _dialogue(there: Mapping[str, Any], form: str, asking: Asking) -> Dialogue:
    messages = _pair(there) if form == "completion" else read_messages(there["messages"])
    require_answer(messages)
    paths = _placed(messages, _paths(there))
    media = tuple(asking.image(path) for path in paths)
    for message in messages:
        if message["role"] == "user":
            message["content"] = _asked(message["content"], asking.text)
    return Dialogue(messages, _tools(there), media, optional(there, "think", bool))


def _pair(there: Mapping[str, Any]) -> list[Message]:
    return [
        {"role": "user", "content": read_content(there["prompt"], "prompt")},
        {"role": "assistant", "content": filled(there, "completion")},
    ]


def _asked(content: Any, text_of: Callable[[str], str]) -> Any:
    """A user's content with its texts as the checkpoint is asked them."""
    if isinstance(content, str):
        return text_of(content)
    return [
        {**part, "text": text_of(part["text"])} if part["type"] == "text" else part
        for part in content
    ]


def _tools(there: Mapping[str, Any]) -> Sequence[Mapping[str, object]]:
    given = there.get("tools", [])
    if not isinstance(given, list):
        raise DataError(f"tools is {brief(given)}, expected a list of declarations.")
    for number, tool in enumerate(given, 1):
        if not isinstance(tool, dict) or not name_of_tool(tool):
            raise DataError(f"tool {number} is {brief(tool)}, expected an object with a name.")
    return given


def _paths(there: Mapping[str, Any]) -> list[str]:
    """The paths of the images beside the messages."""
    given = there.get("images", [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(path, str) for path in given):
        raise DataError(f"images is {brief(given)}, expected a list of paths.")
    return given


def _placed(messages: list[Message], beside: list[str]) -> list[str]:
    """The path of each image in the messages, in order.

    Those beside the messages stand for parts that name none; without such parts they come in front
    of the first user's content.
    """
    unnamed = [part for part in _image_parts(messages) if "path" not in part]
    if beside and not unnamed:
        user = next(each for each in messages if each["role"] == "user")
        content = user["content"]
        text = [{"type": "text", "text": content}] if isinstance(content, str) else content
        unnamed = [{"type": "image"} for _ in beside]
        user["content"] = [*unnamed, *text]
    if len(unnamed) != len(beside):
        raise DataError(
            f"images has {counted(len(beside), 'path')} for {counted(len(unnamed), 'part')} of "
            "type image that name none, expected as many."
        )
    for part, path in zip(unnamed, beside, strict=True):
        part["path"] = path
    return [part.pop("path") for part in _image_parts(messages)]


def _image_parts(messages: list[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message["content"], list):
            yield from (part for part in message["content"] if part["type"] == "image")
