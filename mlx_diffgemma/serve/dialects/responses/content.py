"""Contents in the Responses API: parts of messages, and outputs of functions."""

from __future__ import annotations

from typing import Any

from ....errors import brief
from ...refusal import Refusal
from ..content import Images, Part, joined, text_part
from ..dialect import compact
from ..fields import Fields, either, invalid, objects_of

TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""Types of parts that are texts, and the field that has it."""

KNOWN = ("input_text", "output_text", "input_image")


def content_of(holder: Fields, images: Images, name: str = "content") -> str | list[Part]:
    """A content: a string, or parts of text and images."""
    content = holder.value.get(name)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise holder.wrong(name, "a string or a list of parts")
    return joined([_part(part, images) for part in objects_of(content, holder.at(name))])


def output_of(item: Fields, images: Images) -> str | list[Part]:
    """A function's output: a text, parts, or anything else as JSON; nothing is an empty text."""
    output: Any = item.value.get("output")
    if output is None:
        return ""
    parts = isinstance(output, list) and all(_is_part(part) for part in output)
    return (
        content_of(item, images, "output") if parts or isinstance(output, str) else compact(output)
    )


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and str(part.get("type", "")).startswith("input_")


def _part(part: Fields, images: Images) -> Part:
    kind = part.needed_text("type")
    if kind in TEXTS:
        return text_part(part, TEXTS[kind])
    if kind != "input_image":
        raise part.wrong("type", f"{either(KNOWN)}; send a file's text")
    if part.has("file_id"):
        raise _stored(part, "file_id")
    return images.from_url(part, "image_url")


def _stored(holder: Fields, name: str) -> Refusal:
    got = brief(holder.value[name])
    return invalid(
        holder.at(name), f"is {got}, and nothing is stored here; send the image as a data URL."
    )
