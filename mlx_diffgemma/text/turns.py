"""Messages as clients send them, made fit for chat templates, which take less.

Templates look for a call's results right behind it, in the order of its calls; they trim a text
without looking whether there is one, and write a system text in front alone. What they would leave
out without a word is moved to where they write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import PromptError, brief

Turn = Mapping[str, Any]
"""A message as chat templates take it: role, content, and what else belongs to it."""

SYSTEM = ("system", "developer")
ROLES = {"model": "assistant", "function": "tool"}  # older words for the same
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
IMAGE = "image"


@dataclass
class _Behind:
    """A place behind which a user's turn tells of results: of their images, or all where whole."""

    told: list[tuple[dict[str, Any], bool]] = field(default_factory=list)


@dataclass
class _Asked(_Behind):
    """An assistant's message with calls, and the results of these with their calls' numbers."""

    message: dict[str, Any] = field(default_factory=dict)
    results: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Its calls in order."""
        calls: list[dict[str, Any]] = self.message["tool_calls"]
        return calls

    def number_of(self, result: Turn) -> int | None:
        """The number of the call that a result answers: by its id, else the first open one.

        None where its id is another's, or where all calls of its name are answered.
        """
        if key := result.get("tool_call_id"):
            ids = [call.get("id") for call in self.calls]
            return ids.index(key) if key in ids else None
        answered = {number for number, _ in self.results}
        for number, call in enumerate(self.calls):
            name = call["function"]["name"]
            if number not in answered and result.get("name") in (None, "", name):
                return number
        return None

    def put(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """The result with the name of its call, kept; None where it answers none of these."""
        if (number := self.number_of(result)) is None:
            return None
        named = {**result, "name": self.calls[number]["function"]["name"]}
        self.results.append((number, named))
        return named

    def answered(self, images_in_results: bool) -> list[dict[str, Any]]:
        """The message and its results in the order of the calls."""
        ordered = [result for _, result in sorted(self.results, key=lambda pair: pair[0])]
        seen = [result for result in ordered if _has_parts(result["content"])]
        if images_in_results and self.told == [(result, False) for result in seen]:
            self.told = []
            return [self.message, *ordered]
        return [self.message, *({**each, "content": _text_of(each)} for each in ordered)]


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
    turns = list(_placed(_folded(plain[first:]), images_in_results))
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
        parts = _joined(content)
        if not any(part["type"] == IMAGE for part in parts):
            return parts[0]["text"] if parts else ""
        if role in ("user", "tool"):
            return parts
        raise _wrong(number, f"is the {role}'s and has an image", "text alone")
    if role == "tool":
        return content if isinstance(content, Mapping) else _written(content)
    raise _wrong(number, f"has the content {brief(content)}", "a text, or parts of text and images")


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    kind = part.get("type")
    return kind == IMAGE or (kind == "text" and isinstance(part.get("text"), str))


def _joined(parts: Iterable[Turn]) -> list[dict[str, Any]]:
    """Parts with texts that stand side by side made one, a line each: templates trim every part."""
    joined: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1]["text"] += "\n" + part["text"]
        else:
            joined.append(dict(part))
    return joined


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
            arguments = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError):
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
    return _joined([{"type": "text", "text": text}, *content])


def _placed(turns: Iterable[dict[str, Any]], images_in_results: bool) -> Iterator[dict[str, Any]]:
    """Turns with results behind their calls; images stay in order."""
    rest: list[dict[str, Any] | _Behind] = []
    for turn in turns:
        if turn["role"] == "tool":
            _take(turn, rest)
        else:
            rest.append(_Asked(message=turn) if "tool_calls" in turn else turn)
    for each in rest:
        if isinstance(each, dict):
            yield each
            continue
        if isinstance(each, _Asked):
            yield from each.answered(images_in_results)
        if each.told:
            yield _said(each.told)


def _take(result: dict[str, Any], rest: list[dict[str, Any] | _Behind]) -> None:
    """Put a result to the last call that it answers; what else is told of it stands here."""
    asked = (each for each in reversed(rest) if isinstance(each, _Asked))
    named = next(filter(None, (each.put(result) for each in asked)), None)
    if named is not None and not _has_parts(named["content"]):
        return
    if not rest or not isinstance(rest[-1], _Behind):
        rest.append(_Behind())
    place = rest[-1]
    assert isinstance(place, _Behind)
    place.told.append((named or result, named is None))


def _said(told: Iterable[tuple[Turn, bool]]) -> dict[str, Any]:
    """A user's turn that tells of results."""
    parts: list[Turn] = []
    for result, whole in told:
        of = f"result of {name}" if (name := result.get("name")) else "result of a tool"
        text = f"The {of}:\n{_written(_text_of(result))}" if whole else f"From the {of}:"
        parts.append({"type": "text", "text": text})
        if _has_parts(result["content"]):
            parts += [part for part in result["content"] if part["type"] == IMAGE]
    joined = _joined(parts)
    return {"role": "user", "content": joined if len(joined) > 1 else joined[0]["text"]}


def _written(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _has_parts(content: Any) -> bool:
    return isinstance(content, list)


def _text_of(result: Turn) -> Any:
    """A result's content without its images."""
    content = result["content"]
    if not _has_parts(content):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _without_old_thought(turn: dict[str, Any], *, old: bool) -> Turn:
    """A turn whose thought is left out where a question came behind it, or where it has no call."""
    if "tool_calls" in turn and not old:
        return turn
    return {key: value for key, value in turn.items() if key != "reasoning_content"}


def _says_something(turn: Turn) -> bool:
    empty = not turn["content"] or str(turn["content"]).isspace()
    return turn["role"] != "assistant" or not empty or "tool_calls" in turn
