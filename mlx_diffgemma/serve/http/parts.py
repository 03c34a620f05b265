"""Bodies of multipart/form-data: each part by its name, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from ...errors import brief, one_line
from ..refusal import Refusal

FORM = b"multipart/form-data"
MOST_PARTS = 512  # a request and far more images than any context holds
MOST_HEADER = 4096  # bytes of a part's header


def is_form(content_type: str) -> bool:
    """True for the Content-Type of a form in parts."""
    return parse_options_header(content_type)[0].lower() == FORM


def read_parts(content: bytes, content_type: str) -> dict[str, bytes]:
    """The parts of a body by their names; Refusal for what is no form, or names a part twice."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refusal("invalid", "Content-Type has no boundary, which a form in parts needs.")
    reading = _Reading()
    try:
        parser = MultipartParser(boundary, reading.callbacks())  # type: ignore[arg-type]
        parser.write(content)
        parser.finalize()
    except FormParserError as error:
        raise Refusal("invalid", f"the body is no form in parts: {one_line(error)}.") from None
    if not reading.ended:
        raise Refusal("invalid", "the body is a form that is cut off; send all of it.")
    return {name: bytes(part) for name, part in reading.parts.items()}


@dataclass
class _Reading:
    """A form as far as it was read. Its parser calls back with stretches of the body."""

    parts: dict[str, bytearray] = field(default_factory=dict)
    ended: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _name: str | None = None

    def callbacks(self) -> dict[str, object]:
        """The functions that the parser calls, by the names it has for them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": lambda data, start, end: self._add(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MOST_PARTS:
            raise Refusal("invalid", f"the body has more than {MOST_PARTS} parts.")
        self._name = None

    def _grow(self, text: bytearray, more: bytes) -> None:
        text += more
        if len(text) > MOST_HEADER:
            said = f"a part of the body has a header of more than {MOST_HEADER:,} bytes."
            raise Refusal("invalid", said)

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            found = parse_options_header(bytes(self._value))[1].get(b"name")
            self._name = None if found is None else found.decode(errors="replace")
        self._header.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        if self._name is None:
            raise Refusal("invalid", "a part of the body has no name in Content-Disposition.")
        if self._name in self.parts:
            raise Refusal("invalid", f"the part {brief(self._name)} is there twice.")
        self.parts[self._name] = bytearray()

    def _add(self, data: bytes) -> None:
        assert self._name is not None
        self.parts[self._name] += data

    def _end(self) -> None:
        self.ended = True
