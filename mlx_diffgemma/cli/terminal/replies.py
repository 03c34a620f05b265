"""What a terminal answers, picked out of what somebody types: both come the same way."""

import re

# OSC 11 with its colour, and the primary device attributes: no key sends either.
REPLY = re.compile(rb"\x1b\](11;[ -~]{0,40})(?:\x07|\x1b\\)|\x1b\[(\?[\d;]{0,40}c)")
BEGUN = re.compile(rb"\x1b(?:\](?:1?|11(?:;[ -~]{0,40}\x1b?)?)|\[\?[\d;]{0,40})\Z")
ATTRIBUTES = b"?"  # the first byte of the second kind


class Sieve:
    """Keys on one side, replies on the other; `rest`, half a reply, waits for its end."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []  # without their escapes, in order
        self.rest = b""

    def sift(self, content: bytes) -> bytes:
        """The keys in what was read; replies are kept, wherever two reads have parted them."""
        content = self.rest + content
        self.replies += [found[1] or found[2] for found in REPLY.finditer(content)]
        keys = REPLY.sub(b"", content)
        begun = BEGUN.search(keys)
        self.rest = begun[0] if begun else b""
        return keys[: len(keys) - len(self.rest)]

    @property
    def attributes(self) -> bool:
        """True once the terminal has told its attributes, which every terminal does."""
        return any(reply.startswith(ATTRIBUTES) for reply in self.replies)
