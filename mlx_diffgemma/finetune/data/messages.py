"""Messages of a conversation in JSON, checked and made as chat templates take them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DataError, brief
from ...machine.files import parse_json
from ...text.exchange import THOUGHT_KEYS

ROLES = ("system", "user", "assistant", "tool")
BEHIND = {  # the roles that may stand behind one
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool", "user"),  # of an assistant
    "tool": ("tool", "assistant", "user"),
}
IMAGE_KEYS = ("path", "url", "image")

Message = dict[str, Any]


def read_messages(given: Any) -> list[Message]:
    """The messages in a list; DataError for what is no message, and for roles out of order."""
    if not isinstance(given, list) or not given:
        raise DataError(f"messages is {brief(given)}, expected a list of messages.")
    messages = [_message(number, each) for number, each in enumerate(given, 1)]
    _require_order(messages)
    return messages


def require_answer(messages: list[Message]) -> None:
    """DataError where the last message is no answer that could be learned."""
    last = messages[-1]
    if last["role"] != "assistant":
        raise DataError(
            f"the last message is of the role {last['role']}, expected assistant, with the answer "
            "to learn."
        )
    content = last["content"]
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    if not content.strip() and not last.get("tool_calls"):
        raise DataError("the last message is empty, expected an answer to learn.")


def read_content(given: Any, place: str) -> str | list[dict[str, Any]]:
    """A text, or a list of parts; the path of an image, where it has one, under `path`."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not given:
        raise DataError(f"{place} is {brief(given)}, expected a text or a list of parts.")
    return [_part(part, place) for part in given]


def filled(values: Mapping[str, Any], key: str) -> str:
    """The text of a key, which is there and not blank."""
    text = values[key]
    if not isinstance(text, str):
        raise DataError(f"{key} is {brief(text)}, expected a text.")
    if not text.strip():
        raise DataError(f"{key} is empty, expected a text to learn.")
    return text


def optional(values: Mapping[str, Any], key: str, kind: type, place: str = "") -> Any:
    """The value of a key that may be absent, None for absent."""
    if (value := values.get(key)) is not None and not isinstance(value, kind):
        expected = "true or false" if kind is bool else "a text"
        of = f" of {place}" if place else ""
        raise DataError(f"{key}{of} is {brief(value)}, expected {expected}.")
    return value


def _message(number: int, given: Any) -> Message:
    place = f"message {number}"
    if not isinstance(given, dict):
        raise DataError(f"{place} is {brief(given)}, expected an object with role and content.")
    if (role := given.get("role")) not in ROLES:
        raise DataError(f"{place} has the role {brief(role)}, expected {_either(ROLES)}.")
    for key in THOUGHT_KEYS:
        optional(given, key, str, place)
    message, content = dict(given), given.get("content")
    if calls := given.get("tool_calls"):
        message["tool_calls"] = _calls(calls, place)
    if role == "assistant" and content is None and calls:
        return {**message, "content": ""}
    if role == "tool" and isinstance(content, dict):
        return message
    message["content"] = read_content(content, f"the content of {place}")
    return message


def _part(given: Any, place: str) -> dict[str, Any]:
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text" and isinstance(given.get("text"), str):
        return {"type": "text", "text": given["text"]}
    if kind != "image":
        raise DataError(
            f"{place} has the part {brief(given)}, expected an object of type text with text, or "
            "of type image with path."
        )
    path = next((given[key] for key in IMAGE_KEYS if given.get(key) is not None), None)
    if path is not None and not isinstance(path, str):
        raise DataError(f"{place} has the image {brief(path)}, expected its path.")
    return {"type": "image"} if path is None else {"type": "image", "path": path}


def _calls(given: Any, place: str) -> list[dict[str, Any]]:
    """Calls, their arguments as objects, of which templates make the model's own form."""
    if not isinstance(given, list):
        raise DataError(f"tool_calls of {place} is {brief(given)}, expected a list.")
    return [_call(call, place) for call in given]


def _call(given: Any, place: str) -> dict[str, Any]:
    about = given.get("function", given) if isinstance(given, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("name"), str):
        raise DataError(f"{place} has the tool call {brief(given)}, expected one with a name.")
    arguments = about.get("arguments") or {}
    if isinstance(arguments, str):  # JSON in a text, as OpenAI's interface has it
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
    before = None
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role not in BEHIND[before]:
            first = "first" if before is None else f"behind one of the role {before}"
            behind = "behind a tool call" if before == "call" else first
            raise DataError(
                f"message {number} is of the role {role}, {behind}, expected "
                f"{_either(BEHIND[before])}."
            )
        before = "call" if role == "assistant" and message.get("tool_calls") else role


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
