"""Bodies: their limit, their encodings, their JSON, and forms in parts."""

import json
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_calls import Calls, application
from valid_requests import VALID

from mlx_diffgemma.serve.http import bodies
from mlx_diffgemma.serve.http.bodies import MOST_FRAMES, decompressed
from mlx_diffgemma.serve.http.parts import MOST_PARTS, is_form, read_parts
from mlx_diffgemma.serve.refusal import Refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHAT = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "Hello?"}]}
LIMIT = 100_000
POSTED = tuple(path for path in VALID if path != "/v1/systemone")


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with application(body_limit=LIMIT) as made:
        yield made


def compressed(value: Any) -> bytes:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return zstd.compress(content)


# --- JSON


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "empty"), (b"  \n", "empty"), (b"{", "no JSON"), (b"\xff\xfe{}", "not UTF-8"),
     (b'{"a": NaN}', "NaN"), (b'{"a": -Infinity}', "Infinity"), (b'{"a": 1e999}', "too large"),
     (b'{"a": 1, "a": 2}', "'a' is there twice"), (b'{"a": "\\ud800"}', "surrogate"),
     (b"[" * 5000 + b"]" * 5000, "deep"), (b'{"a":' * 200 + b"1" + b"}" * 200, "deep"),
     (b'{"a": ' + b"9" * 5000 + b"}", "5,000 digits"), (b"[]", "object"), (b'"text"', "object"),
     (b"null", "object"), (b'{"messages": []} x', "no JSON")],
)  # fmt: skip
def test_what_is_no_object_of_json_is_refused_in_a_line(
    calls: Calls, path: str, body: bytes, said: str
) -> None:
    reply = calls.post(path, body)
    assert reply.status == 400
    assert said in reply.message
    assert "\n" not in reply.message
    assert reply.json["error"]["type"] == "invalid_request_error"


def test_a_byte_order_mark_is_passed_over(calls: Calls) -> None:
    assert calls.post(CHAT, b"\xef\xbb\xbf" + json.dumps(ASKED).encode()).status == 200


# --- encodings


@pytest.mark.parametrize("path", POSTED)
def test_zstd_is_read(calls: Calls, path: str) -> None:
    value = VALID[path][0]
    for encoding in ("zstd", "ZSTD", "identity"):
        body = compressed(value) if encoding != "identity" else json.dumps(value).encode()
        assert calls.post(path, body, headers={"content-encoding": encoding}).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd, gzip", "x" * 300, "\x1b[m"])
def test_another_encoding_is_415(calls: Calls, encoding: str) -> None:
    reply = calls.post(CHAT, ASKED, headers={"content-encoding": encoding})
    assert reply.status == 415
    assert "zstd" in reply.message
    assert len(reply.message) < 250


@pytest.mark.parametrize("at", [0, 1, 4, 5, 12, -1])
def test_zstd_that_is_cut_or_none_is_refused(calls: Calls, at: int) -> None:
    for body in (compressed(ASKED)[:at], b"no zstd at all", compressed(ASKED) + b"rest"):
        reply = calls.post(CHAT, body, headers={"content-encoding": "zstd"})
        assert reply.status == 400
        assert "zstd" in reply.message or not body


def test_no_more_than_the_limit_is_decompressed() -> None:
    bomb = zstd.compress(b" " * (LIMIT * 300))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="more than"):
            decompressed(bomb, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < LIMIT * 20
    finally:
        tracemalloc.stop()


def test_frames_join_and_there_may_be_few() -> None:
    one = zstd.compress(b"ab")
    assert decompressed(one + zstd.compress(b"c"), 3) == b"abc"
    assert decompressed(one * MOST_FRAMES, LIMIT) == b"ab" * MOST_FRAMES
    with pytest.raises(Refusal, match="frames"):
        decompressed(one * (MOST_FRAMES + 1), LIMIT)


# --- the limit


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(calls: Calls) -> None:
    body = json.dumps(ASKED).encode().ljust(LIMIT)
    assert calls.post(CHAT, body).status == 200
    reply = calls.post(CHAT, body + b" ")
    assert reply.status == 413
    assert f"{LIMIT:,}" in reply.message


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 5000])
def test_what_is_announced_too_large_is_refused_unread(calls: Calls, length: str) -> None:
    assert calls.post(CHAT, ASKED, headers={"content-length": length}).status == 413


def test_the_limit_counts_what_was_decompressed(calls: Calls) -> None:
    encoding = {"content-encoding": "zstd"}
    bomb = compressed(b"{" + b" " * (LIMIT * 50))
    assert len(bomb) < LIMIT
    assert calls.post(CHAT, bomb, headers=encoding).status == 413
    body = json.dumps(ASKED).encode().ljust(LIMIT)
    assert calls.post(CHAT, compressed(body), headers=encoding).status == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/messages", "request_too_large"), ("/v1/systemone", "request_too_large"),
     (CHAT, "invalid_request_error")],
)  # fmt: skip
def test_each_family_says_too_large_in_its_shape(calls: Calls, path: str, kind: str) -> None:
    reply = calls.post(path, b" " * (LIMIT + 1))
    assert reply.status == 413
    told = reply.json.get("error") or reply.json["detail"]
    assert told.get("type", told.get("error_type")) == kind


@pytest.mark.parametrize("value", ["[]", "{}", "1"])
def test_values_that_would_take_more_memory_than_their_bytes_are_refused_unread(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(bodies, "MOST_MARKS", 1000)
    for path in (CHAT, "/v1/systemone"):
        reply = calls.post(path, f'{{"x": [{",".join([value] * 1001)}]}}'.encode())
        assert reply.status == 413
        assert "1,000 lists, objects and commas" in reply.message
    assert calls.post(CHAT, {**ASKED, "x": [1] * 990}).status == 200
    assert calls.post(CHAT, {**ASKED, "x": "a" * 2000}).status == 200


# --- forms in parts

TYPE = "multipart/form-data; boundary=xx"


def form(*parts: tuple[str, bytes], end: bytes = b"--xx--\r\n") -> bytes:
    """A form of named parts."""
    head = b'--xx\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), content) for name, content in parts) + end


def test_parts_come_by_their_names() -> None:
    image = bytes(range(256)) * 9
    parts = read_parts(form(("request", b"{}"), ("asset-0", image), ("", b"")), TYPE)
    assert parts == {"request": b"{}", "asset-0": image, "": b""}
    assert is_form(TYPE)
    assert is_form('Multipart/Form-Data; boundary="xx"')
    assert not is_form("application/json")
    assert not is_form("")


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (form(("a", b"1")), "multipart/form-data", "boundary"),
        (form(("a", b"1")), "multipart/form-data; boundary=", "boundary"),
        (form(("a", b"1")), f"multipart/form-data; boundary={'x' * 5000}", "oundary"),
        (form(("a", b"1")), "multipart/form-data; boundary=yy", "no form"),
        (form(("a", b"1"), end=b""), TYPE, "cut off"),
        (form(("a", b"1"))[:20], TYPE, "cut off"),
        (b"", TYPE, "cut off"),
        (form(("a", b"1"), ("a", b"2")), TYPE, "'a' is there twice"),
        (b"--xx\r\nX-Y: z\r\n\r\n1\r\n--xx--\r\n", TYPE, "no name"),
        (b"--xx\r\n\r\n1\r\n--xx--\r\n", TYPE, "no name"),
        (b"--xx\r\nX: " + b"y" * 50_000 + b"\r\n\r\n1\r\n--xx--\r\n", TYPE, "header"),
        (form(*((str(i), b"") for i in range(MOST_PARTS + 1))), TYPE, f"{MOST_PARTS}"),
        (b"\x00\xff" * 50, TYPE, "no form"),
    ],
)
def test_a_broken_form_is_refused_in_a_line(body: bytes, content_type: str, said: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_parts(body, content_type)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
