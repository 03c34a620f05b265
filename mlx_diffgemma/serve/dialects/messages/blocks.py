"""Blocks of content in the Messages API: texts, images, documents, calls, results and thoughts.

A type that is not known is left out with a line, since clients replay what other servers sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....errors import brief
from ...refusal import Refusal
from ..content import Images, LeftOut, Part, arguments_of, call_of, joined, text_part, tool_turn
from ..fields import Fields, invalid, objects_of

ERROR: Part = {"type": "text", "text": "Error:"}


@dataclass
class Blocks:
    """The yield of a request's blocks so far.

    names: of the tools that were called, by the calls' ids.
    """

    images: Images = field(default_factory=Images)
    names: dict[str, str] = field(default_factory=dict)
    left: LeftOut = field(default_factory=LeftOut)

    def of(self, holder: Fields, name: str = "content") -> tuple[Fields, ...]:
        """The blocks of a field; a string is a block of text, an empty one none."""
        content = holder.value.get(name)
        if isinstance(content, str):
            text = Fields({"type": "text", "text": content}, holder.at(name))
            return (text,) if content else ()
        if content is not None and not isinstance(content, list):
            raise holder.wrong(name, "a string or a list of blocks")
        return tuple(objects_of(content or (), holder.at(name)))

    def parts(self, blocks: Sequence[Fields]) -> list[Part]:
        """The texts and images of some blocks."""
        return [part for block in blocks for part in self._parts(block)]

    def result(self, block: Fields) -> dict[str, Any]:
        """A tool's message; a result that is an error says so in front of its text."""
        key = block.needed_text("tool_use_id")
        head = [ERROR] if block.flag("is_error") else []
        content = joined([*head, *self.parts(self.of(block))])
        return tool_turn(key, self.names, content)

    def call(self, block: Fields) -> dict[str, Any]:
        """A call as templates take it."""
        key, name = block.needed_text("id"), block.needed_text("name")
        self.names[key] = name
        return call_of(key, name, arguments_of(block, "input"))

    def _parts(self, block: Fields) -> Iterator[Part]:
        kind = block.needed_text("type")
        if kind == "text":
            yield text_part(block)
        elif kind == "image":
            yield self._image(block.needed_object("source"))
        elif kind == "document":
            yield from self._document(block)
        elif kind == "search_result":
            yield from self._titled(block, self.parts(self.of(block)))
        else:
            self.left.add(block, kind)

    def _image(self, source: Fields) -> Part:
        """An image in base64, or in a data URL; Refusal for one elsewhere."""
        kind = source.needed_text("type")
        if kind == "base64":
            return self.images.from_base64(source, "data")
        if kind == "url":
            return self.images.from_url(source, "url")
        raise source.wrong("type", "base64: this server keeps no files; send the image itself")

    def _document(self, block: Fields) -> Iterator[Part]:
        """A document's text; Refusal for one that is none."""
        source = block.needed_object("source")
        kind = source.needed_text("type")
        if kind == "text":
            yield from self._titled(block, [text_part(source, "data")])
        elif kind == "content":
            yield from self._titled(block, self.parts(self.of(source)))
        else:
            raise _not_text(source)

    def _titled(self, block: Fields, parts: list[Part]) -> Iterator[Part]:
        if title := block.text("title"):
            yield {"type": "text", "text": title}
        yield from parts


def _not_text(source: Fields) -> Refusal:
    return invalid(
        source.at("type"),
        f"is {brief(source.value['type'])}, expected text or content: this server reads no PDF, "
        "fetches nothing and keeps no files; send the document's text.",
    )
