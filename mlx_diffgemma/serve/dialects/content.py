"""Contents of messages: texts, images that came in the request itself, arguments of calls.

An image is never fetched: neither a URL nor a path in a request is followed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import brief, one_line
from ...machine.files import parse_json
from ..refusal import Refusal
from .fields import Fields, either, invalid

MOST_IMAGES = 64  # of a request
MOST_LINES = 8  # of types that are left out
MOST_IMAGE_BYTES = 20 << 20  # of one, decoded

Part = dict[str, Any]
"""A part of a content as chat templates take it: {"type": "text", "text"} or {"type": "image"}."""

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+/-]*)(?:;[\w.+=\"-]+)*?;base64", re.IGNORECASE)
_REMOTE = re.compile(r"(?:https?|ftp|s3|gs):", re.IGNORECASE)
_HEAD = 256  # characters of a URL, in front of its data at most


@dataclass
class Images:
    """The images of a request, in the order in which its messages have them."""

    found: list[bytes] = field(default_factory=list)

    def from_url(self, holder: Fields, name: str) -> Part:
        """The part of an image that a field has as a data URL; Refusal for another URL."""
        return self._add(holder, name, data_of_url(holder, name))

    def from_base64(self, holder: Fields, name: str) -> Part:
        """The part of an image that a field has in base64; Refusal for what is none."""
        return self._add(holder, name, data_of_base64(holder, name))

    def _add(self, holder: Fields, name: str, data: bytes) -> Part:
        if len(self.found) == MOST_IMAGES:
            raise invalid(
                holder.at(name), f"is image {MOST_IMAGES + 1}, expected at most {MOST_IMAGES}."
            )
        self.found.append(data)
        return {"type": "image"}


def data_of_url(holder: Fields, name: str) -> bytes:
    """The bytes of an image in a data URL; Refusal for another URL, or for a path."""
    url = holder.needed_text(name).strip()
    remote = _REMOTE.match(url[:_HEAD])
    head, _, data = url.partition(",")
    found = None if remote or len(head) > _HEAD else _DATA_URL.fullmatch(head)
    if found is None:
        does = "fetches nothing" if remote else "opens no file"
        raise invalid(
            holder.at(name),
            f"is {brief(url[:_HEAD])}, expected a data:image/...;base64, URL: this server {does}; "
            "send the image itself.",
        )
    if not found["kind"].lower().startswith("image/"):
        raise invalid(holder.at(name), f"is of type {brief(found['kind'])}, expected image/... .")
    return _decoded(holder, name, data)


def data_of_base64(holder: Fields, name: str) -> bytes:
    """The bytes of an image in base64."""
    return _decoded(holder, name, holder.needed_text(name))


def _decoded(holder: Fields, name: str, written: str) -> bytes:
    """The bytes of base64, blanks and line breaks in it passed over; Refusal for none, or many."""
    path = holder.at(name)
    try:
        data = base64.b64decode("".join(written.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(path, f"is no base64 ({one_line(error)}), expected an image in it.") from None
    if not data:
        raise invalid(path, "is empty, expected an image.")
    if len(data) > MOST_IMAGE_BYTES:
        most = f"{MOST_IMAGE_BYTES >> 20} MiB"
        raise invalid(path, f"is larger than {most}, expected less; make the image smaller.")
    return data


@dataclass
class LeftOut:
    """Parts of a request that are of types that nobody reads: paths, by the type."""

    paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, part: Fields, kind: str) -> None:
        """Leave a part out."""
        self.paths.setdefault(kind, []).append(part.path)

    def lines(self) -> Iterator[str]:
        """A line for each type, for the first few of them."""
        for kind, paths in list(self.paths.items())[:MOST_LINES]:
            also = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{paths[0]}{also} of type {brief(kind)} is not read, and was left out."


def joined(parts: Sequence[Part]) -> str | list[Part]:
    """A content of parts: one text alone is a string."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return list(parts)


def tool_turn(key: str, names: Mapping[str, str], content: str | list[Part]) -> dict[str, Any]:
    """A tool's result as templates take it; names: of the calls, by their ids."""
    named = {"name": names[key]} if key in names else {}
    return {"role": "tool", "tool_call_id": key, **named, "content": content}


def call_of(key: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an earlier answer as templates take it."""
    function = {"name": name, "arguments": arguments}
    return {"id": key, "type": "function", "function": function}


def text_part(part: Fields, name: str = "text") -> Part:
    """The part of a text that a field has."""
    return {"type": "text", "text": part.needed_text(name)}


def unread(part: Fields, known: Sequence[str]) -> Refusal:
    """The refusal of a part whose type is none of those known."""
    return part.wrong("type", either(known))


def arguments_of(holder: Fields, name: str = "arguments") -> dict[str, Any]:
    """The arguments of a call, an object or its JSON; nothing, or an empty text, is none."""
    value = holder.value.get(name)
    if value is None or isinstance(value, dict):
        return value or {}
    text = holder.needed_text(name)
    if not text.strip():
        return {}
    try:
        read = parse_json(text.encode(errors="surrogatepass"))
    except ValueError as error:
        raise invalid(holder.at(name), f"is no JSON ({error}), expected an object.") from None
    if not isinstance(read, dict):
        raise invalid(holder.at(name), f"is the JSON of {brief(read)}, expected an object.")
    return read


def plain(content: str | list[Part]) -> str:
    """The text of a content, without its images."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
