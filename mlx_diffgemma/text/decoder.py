"""Ids to text one after the other: a character of several tokens, one a byte, comes with the last.

The library decodes whole lists, and spoils a whole character where a broken one stands beside it.
Here each byte that belongs to no character becomes U+FFFD and whatever was decoded stays, so that
the text of some ids is a beginning of the text of more. A token that is no byte ends a character.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BROKEN = re.compile("[\udc80-\udcff]")  # a byte that Python's surrogateescape could not decode

KIND = re.compile(r'"type":"(\w+)"')  # in the JSON of a decoder, or of those in a sequence
OTHERS = frozenset({"BPEDecoder", "ByteLevel", "CTC"})  # a token's text depends on those beside it


@dataclass(frozen=True)
class Unit:
    """The text that a token writes, or its byte.

    first: the text where no token stands before it; some decoders strip a blank there.
    """

    text: str
    first: str
    byte: bytes | None = None


def other_decoder(backend: tokenizers.Tokenizer) -> str | None:
    """The name of a decoder that cannot be followed token by token, or None."""
    if backend.decoder is None:
        return None
    kinds = KIND.findall(backend.decoder.__getstate__().decode())
    return next((kind for kind in kinds if kind in OTHERS), None)


def read_unit(backend: tokenizers.Tokenizer, token: int) -> Unit | None:
    """The Unit of a token; None for an id outside the vocabulary."""
    name: str | None = backend.id_to_token(token)
    if name is None:
        return None
    first: str = backend.decode([token], skip_special_tokens=False)
    twice: str = backend.decode([token, token], skip_special_tokens=False)
    byte = BYTE.fullmatch(name)
    if byte and first != name:
        return Unit("", "", bytes((int(byte[1], 16),)))
    return Unit(twice[len(first) :], first)


@dataclass
class Decoder:
    """Decodes ids as they come. A copy goes on from the same place."""

    units: Callable[[int], Unit | None]
    dropped: Collection[int] = ()  # ids that write nothing
    begun: bool = False
    cut: bytes = b""  # the beginning of a character

    def add(self, token: int) -> str:
        """The text that this token adds, U+FFFD for bytes before it that it does not complete."""
        unit = None if token in self.dropped else self.units(token)
        if unit is None:
            return self.end()
        if unit.byte is None:
            text = self.end() + (unit.text if self.begun else unit.first)
        else:
            text = self._decoded(unit.byte, end=False)
        self.begun = True
        return text

    def end(self) -> str:
        """The text of a character that was cut: U+FFFD for each of its bytes."""
        return self._decoded(b"", end=True) if self.cut else ""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids that nothing follows."""
        return "".join([*map(self.add, ids), self.end()])

    def _decoded(self, byte: bytes, *, end: bool) -> str:
        pending = self.cut + byte
        text, used = codecs.utf_8_decode(pending, "surrogateescape", end)
        self.cut = pending[used:]
        return BROKEN.sub("\ufffd", text)
