"""The bytes that each token of a vocabulary writes, for forms of answers.

A control token writes none, and has to be known by name: a tokenizer may call `<unused7>` and the
markers of a chat template ordinary text, and a string of JSON may hold any text.
"""

from __future__ import annotations

from ..machine.files import parse_json
from .control import CONTROL
from .decoder import BYTE
from .tokenizer import Tokenizer

BLANK = "▁"  # stands for a blank in the vocabulary
GEMMAS = [
    {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
PLAIN = {"type": "Fuse"}  # the decoder of a vocabulary whose tokens are what they write


def token_bytes(tokenizer: Tokenizer, size: int) -> list[bytes | None]:
    """What each id writes behind others, [size]; None for control tokens and where no token is.

    Equal to `Tokenizer.unit` of all ids, in a quarter of the time where the decoder is a known one.
    size: rows of the model's vocabulary, which may have more than the tokenizer has tokens.
    """
    names: dict[str, int] = tokenizer.backend.get_vocab(with_added_tokens=True)
    control = control_ids(tokenizer, names)
    known = _known_decoder(tokenizer)
    texts: list[bytes | None] = [None] * size
    for name, index in names.items():
        if index >= size or index in control:
            continue
        if not known:
            texts[index] = _by_unit(tokenizer, index)
        elif known == "bytes" and (byte := name.startswith("<0x") and BYTE.fullmatch(name)):
            texts[index] = bytes((int(byte[1], 16),))
        else:
            text = name.replace(BLANK, " ") if known == "bytes" else name
            texts[index] = text.encode() or None
    return texts


def control_ids(tokenizer: Tokenizer, names: dict[str, int]) -> frozenset[int]:
    """Ids that write no text: those of control texts, and names of their shapes."""
    texts = tokenizer.control.texts
    named = {names[text] for text in texts if text in names}
    shaped = {
        index for name, index in names.items() if name[:1] in ("<", "[") and CONTROL.fullmatch(name)
    }
    return tokenizer.control_ids | named | shaped


def _known_decoder(tokenizer: Tokenizer) -> str | None:
    """bytes: Gemma's decoder; plain: one that only joins; None: another."""
    decoder = tokenizer.backend.decoder
    state = None if decoder is None else parse_json(decoder.__getstate__())
    if state == {"type": "Sequence", "decoders": GEMMAS}:
        return "bytes"
    return "plain" if state == PLAIN else None


def _by_unit(tokenizer: Tokenizer, index: int) -> bytes | None:
    unit = tokenizer.unit(index)
    if unit is None:
        return None
    return unit.byte or unit.text.encode() or None
