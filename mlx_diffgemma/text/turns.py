"""Messages as clients send them, made fit for chat templates, which take less.

Templates look for a call's results right behind it, in the order of its calls; they trim a text
without looking whether there is one, and write a system text in front alone. What they would leave
out without a word is moved to where they write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import PromptError, brief
from ..machine.files import parse_json
from .results import IMAGE, Turn, as_text, joined_parts, placed

SYSTEM = ("system", "developer")
ROLES = {"model": "assistant", "function": "tool"}  # older words for the same
THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def fit_for_template(messages: Sequence[Turn], *, images_in_results: bool = False) -> list[Turn]:
    """Messages as chat templates take them; those given are not changed.

    System texts in front become one. A later one stands in front of the next user's text, since a
    change of the first would encode the whole conversation anew. Results stand behind their calls,
    in the order of these and with their names; one without a call is a user's text, and so are, in
    order, the images of results, unless images_in_results: the template writes them where they are.
    Arguments are objects, contents texts where they are texts alone. A thought is kept beside calls
    behind the last question, where templates may want it. Answers that say nothing are left out.
    PromptError names a message, counted from 1, that has no role or a wrong content.
    """
    plain = [_plain(message, number) for number, message in enumerate(messages, 1)]
    first = next((n for n, turn in enumerate(plain) if turn["role"] != "system"), len(plain))
    system = "\n\n".join(filter(None, (turn["content"] for turn in plain[:first])))
    turns = list(placed(_folded(plain[first:]), images_in_results))
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    kept = [_without_old_thought(turn, old=n < last) for n, turn in enumerate(turns)]
    front: list[Turn] = [{"role": "system", "content": system}] if system else []
    return [*front, *(turn for turn in kept if _says_something(turn))]


# --- one message


def _plain(message: Turn, number: int) -> dict[str, Any]:
    """A message with a role that templates know, and its content and calls in their words."""
    given = message.get("role")
    role = "system" if given in SYSTEM else ROLES.get(str(given), given)
    if role not in ("system", "user", "assistant", "tool"):
        raise _wrong(number, f"has the role {brief(given)}", "system, user, assistant or tool")
    content = _content(message.get("content"), str(role), number)
    turn = {**message, "role": role, "content": content}
    if calls := message.get("tool_calls"):
        turn["tool_calls"] = [_call(call, number) for call in _list(calls, number)]
    else:
        turn.pop("tool_calls", None)
    thoughts = [text for key in THOUGHTS if isinstance(text := turn.pop(key, None), str)]
    if role == "assistant" and (thought := next(filter(None, thoughts), None)):
        turn["reasoning_content"] = thought
    return turn


def _content(content: Any, role: str, number: int) -> Any:
    """A text where there is no more than text, else parts of which no two texts are neighbours.

    A tool's content may be anything: what is neither text nor parts is JSON, an object stays one.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence) and all(map(_is_part, content)):
        parts = joined_parts(content)
        if not any(part["type"] == IMAGE for part in parts):
            return parts[0]["text"] if parts else ""
        if role in ("user", "tool"):
            return parts
        raise _wrong(number, f"is the {role}'s and has an image", "text alone")
    if role == "tool":
        return content if isinstance(content, Mapping) else as_text(content)
    raise _wrong(number, f"has the content {brief(content)}", "a text, or parts of text and images")


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    kind = part.get("type")
    return kind == IMAGE or (kind == "text" and isinstance(part.get("text"), str))


def _list(calls: Any, number: int) -> Sequence[Any]:
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        return calls
    raise _wrong(number, f"has the tool_calls {brief(calls)}", "a list")


def _call(call: Any, number: int) -> dict[str, Any]:
    """A call with its arguments as an object."""
    about = call.get("function", call) if isinstance(call, Mapping) else None
    name = about.get("name") if isinstance(about, Mapping) else None
    if not isinstance(about, Mapping) or not isinstance(name, str) or not name:
        raise _wrong(number, f"has the call {brief(call)}", "a function with a name")
    given = arguments = about.get("arguments")
    if isinstance(given, str):
        try:
            arguments = parse_json(given.encode()) if given.strip() else {}
        except ValueError:
            arguments = given
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        had = f"has a call of {brief(name)} with the arguments {brief(given)}"
        raise _wrong(number, had, "a JSON object")
    key = {"id": call["id"]} if call.get("id") else {}
    return {**key, "type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def _wrong(number: int, got: str, expected: str) -> PromptError:
    return PromptError(f"message {number} {got}, expected {expected}; send it so.")


# --- their order


def _folded(turns: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Turns with each system text among them in the next user's, or in one of its own at the end.

    A turn of its own between a call and its result would part them.
    """
    waiting: list[str] = []
    for turn in turns:
        if turn["role"] == "system":
            waiting += filter(None, [turn["content"]])
        elif turn["role"] == "user" and waiting:
            yield {**turn, "content": _after("\n\n".join(waiting), turn["content"])}
            waiting = []
        else:
            yield turn
    if waiting:
        yield {"role": "user", "content": "\n\n".join(waiting)}


def _after(text: str, content: Any) -> Any:
    """A content with a text in front of it."""
    if isinstance(content, str):
        return f"{text}\n\n{content}" if content else text
    return joined_parts([{"type": "text", "text": text}, *content])


def _without_old_thought(turn: dict[str, Any], *, old: bool) -> Turn:
    """A turn whose thought is left out where a question came behind it, or where it has no call."""
    if "tool_calls" in turn and not old:
        return turn
    return {key: value for key, value in turn.items() if key != "reasoning_content"}


def _says_something(turn: Turn) -> bool:
    empty = not turn["content"] or str(turn["content"]).isspace()
    return turn["role"] != "assistant" or not empty or "tool_calls" in turn
