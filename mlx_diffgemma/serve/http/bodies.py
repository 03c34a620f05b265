"""Bodies of requests: read up to a limit, decompressed, and parsed."""

from __future__ import annotations

import sys
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ...errors import one_line, shown
from ...machine.files import parse_json
from ..refusal import Refusal

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

SMALL = 1 << 16  # bytes that are parsed sooner than a thread begins
MOST_FRAMES = 16
MOST_MARKS = 2_000_000  # of MARKS; a list of two bytes takes sixty once it is read
MARKS = (b"[", b"{", b",")
MOST_LENGTH_DIGITS = 18  # of a Content-Length


async def read_json(request: Request, limit: int) -> Any:
    """The JSON value of a request's body; Refusal where it is too large, or none that can be read.

    limit: in bytes, before and after it is decompressed. ClientDisconnect where it was cut off.
    """
    content = await read_body(request, limit)
    return json_of(content) if len(content) <= SMALL else await run_in_threadpool(json_of, content)


def json_of(content: bytes) -> Any:
    """The JSON value in a body; Refusal for what is none."""
    if not content.strip():
        raise Refusal("invalid", "the body is empty, expected a JSON object.")
    try:
        return parse_json(content)
    except ValueError as error:
        raise Refusal("invalid", f"the body is no JSON: {error}.") from None


async def read_body(request: Request, limit: int) -> bytes:
    """The bytes of a request's body, decompressed; Refusal for too many, or an unknown encoding.

    Too many values, too: what is small as bytes may be gigabytes as lists and objects.
    """
    encoding = _encoding(request)
    content = bytearray()
    _require_fits(_declared(request), limit)
    async for chunk in request.stream():
        content += chunk
        _require_fits(len(content), limit)
    whole = bytes(content)
    if encoding is not None:
        whole = await run_in_threadpool(decompressed, whole, limit)
    if len(whole) <= SMALL:
        _require_few(whole)
    else:
        await run_in_threadpool(_require_few, whole)
    return whole


def decompressed(content: bytes, limit: int) -> bytes:
    """The content of a zstd stream of one frame or more; Refusal where it is cut, or too large."""
    found, frames = bytearray(), 0
    try:
        while content:
            if (frames := frames + 1) > MOST_FRAMES:  # each costs a copy of what follows it
                raise Refusal("invalid", f"the body has more than {MOST_FRAMES} zstd frames.")
            frame = ZstdDecompressor()
            found += frame.decompress(content, limit + 1 - len(found))
            _require_fits(len(found), limit)
            if not frame.eof:
                raise Refusal("invalid", "the body is zstd that is cut off; send all of it.")
            content = frame.unused_data
    except ZstdError as error:
        raise Refusal("invalid", f"the body is no zstd: {one_line(error)}.") from None
    return bytes(found)


def _encoding(request: Request) -> str | None:
    """ "zstd", or None for a body that is as it is; Refusal for other encodings."""
    named = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if named in ("", "identity"):
        return None
    if named == "zstd":
        return named
    said = f"Content-Encoding is {shown(named)}, expected identity or zstd."
    raise Refusal("encoding", said)


def _declared(request: Request) -> int:
    """The bytes that a request says it has, 0 where it says nothing that can be read."""
    said = request.headers.get("content-length", "")
    if not (said.isascii() and said.isdigit()):
        return 0
    return int(said) if len(said) <= MOST_LENGTH_DIGITS else 10**MOST_LENGTH_DIGITS


def _require_few(content: bytes) -> None:
    """Refusal for more lists, objects and members than any question has."""
    if len(content) > MOST_MARKS and sum(map(content.count, MARKS)) > MOST_MARKS:
        said = f"the body has more than {MOST_MARKS:,} lists, objects and commas; send fewer."
        raise Refusal("too_large", said)


def _require_fits(size: int, limit: int) -> None:
    if size > limit:
        said = f"the body has more than {limit:,} bytes, which is the most; send less."
        raise Refusal("too_large", said)
