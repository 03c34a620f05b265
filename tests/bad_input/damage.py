"""Damage to files, drawn from a seed: odd values, texts cut or changed, headers rebuilt."""

import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP = 200_000  # levels of nesting
HUGE = 10**400

NUMBERS: tuple[Any, ...] = (0, -1, 1, 2**31, 2**63, 10**9, HUGE, 1e308, 8.0, 0.5, -0.0)
LITERALS = (float("nan"), float("inf"))  # json writes NaN and Infinity
TEXTS = (
    "",
    " ",
    "\0",
    "\ud800",
    "../..",
    "float8",
    "default",
    "𝟙",
    "\ufeff",
    "x" * 3000,
    "{{ x }}",
)
VALUES: tuple[Any, ...] = (
    *NUMBERS, *LITERALS, *TEXTS,
    None, True, False, [], {}, [[]], [None], {"a": 1}, [1, 2, 3], [[1], {"b": None}],
)  # fmt: skip


def odd_json(rng: random.Random, content: Any) -> Any:
    """The content with one to three of its places changed, taken away or doubled."""
    content = json.loads(json.dumps(content))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        there = list(spots(content))
        if not there:
            return rng.choice(VALUES)
        _change(rng, *rng.choice(there))
    return content


def spots(content: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    found = []
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        found.append((content, key))
        if isinstance(content[key], dict | list):
            found += spots(content[key])
    return found


def _change(rng: random.Random, parent: Any, key: Any) -> None:
    match rng.randrange(5):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("unknown", str(key) + "_", str(key).upper()))] = parent.pop(key)
        case 2 if isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
            parent[key] = rng.choice(
                (parent[key] + 1, -parent[key], float(parent[key]), str(parent[key]))
            )
        case _:
            parent[key] = rng.choice(VALUES)


def written(rng: random.Random, content: Any) -> bytes:
    """The JSON text of a content, sometimes in another encoding or with a byte order mark."""
    text = json.dumps(content)
    match rng.randrange(12):
        case 0:
            return b"\xef\xbb\xbf" + text.encode()
        case 1:
            return text.encode("utf-16")
        case 2:
            return text.replace("{", '{"a": ' + "[" * DEEP + "]" * DEEP + ", ", 1).encode()
        case 3:
            return text.replace(": ", f': {"9" * 5000}, "b": ', 1).encode()
    return text.encode()


def odd_bytes(rng: random.Random, content: bytes) -> bytes:
    """The content cut, changed in some bytes, nested without end, or something else entirely."""
    at = rng.randrange(len(content) + 1) if content else 0
    match rng.randrange(9):
        case 0:
            return content[:at]
        case 1:
            return content[at:]
        case 2:
            return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:]
        case 3:
            return content[:at] + content
        case 4:
            return b"[" * DEEP
        case 5:
            return b'{"a":' * DEEP
        case 6:
            return rng.randbytes(rng.randrange(200))
        case 7:
            return b""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 5)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def odd_shard(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file with another header, another length of it, or other numbers."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    match rng.randrange(6):
        case 0:
            claimed = rng.choice(
                (0, 1, length - 1, length + 1, len(content), 2**40, 2**63, 2**64 - 1)
            )
            return struct.pack("<Q", claimed) + header + data
        case 1:
            return content[: rng.randrange(len(content))]
        case 2:
            return struct.pack("<Q", length) + header + odd_bytes(rng, data)
        case 3:
            header = odd_bytes(rng, header)
        case _:
            header = written(rng, odd_json(rng, json.loads(header)))
    return struct.pack("<Q", len(header)) + header + data


IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
SIDES = (0, 1, 2, 47, 5_000, 100_000, 2**31 - 1, 2**32 - 1)  # pixels that a header claims


def odd_image(rng: random.Random, whole: bytes) -> tuple[str, bytes]:
    """The name and the bytes of an image or an animation in which something is wrong, or not.

    whole: a picture in which nothing is, of any format.
    """
    from PIL import Image

    if rng.random() < 0.15:
        return "picture.png", _odd_header(rng)
    kind = rng.choice(IMAGE_FORMATS)
    image = Image.open(io.BytesIO(whole)).convert("RGB")
    if rng.random() < 0.7:
        image = image.resize((rng.choice((1, 5, 60, 300)), rng.choice((1, 7, 40, 270))))
    content = io.BytesIO()
    more = {"save_all": True, "append_images": [image.rotate(90)]} if kind == "GIF" else {}
    image.save(content, kind, **more)
    if rng.random() < 0.2:
        return f"picture.{kind.lower()}", content.getvalue()
    return f"picture.{kind.lower()}", odd_bytes(rng, content.getvalue())


def _odd_header(rng: random.Random) -> bytes:
    """A PNG that claims any size, depth and colour type, with next to no data."""
    sizes = struct.pack(">II", rng.choice(SIDES), rng.choice(SIDES))
    header = sizes + bytes((rng.choice((1, 8, 16, 255)), rng.randrange(8), 0, 0, rng.randrange(2)))
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rng.randrange(100)))), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


TEMPLATES = (
    "",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ ('x' * 10**5) * 10**5 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 9**9**9**9 }}",
    "{{ messages",
    "{% if %}",
    "{{ messages[99]['content'] }}",
    "{{ raise_exception('no') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages | map(attribute='content') | join('x' * 100000000) }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% include '/etc/passwd' %}",
    "{{ bos_token.format('{0.__class__}') }}",
    "{{ '%100000000000s' % 'x' }}",
    "{{ 'x'.center(10**11) }}",
    "{% set x = namespace(s='x') %}{% for i in range(99) %}{% set x.s = x.s + x.s %}{% endfor %}",
    "{{ undefined_name.attribute }}",
    "{{ messages }}",
    "\ufeff{{ bos_token }}{{ messages[0]['content'] }}",
)


def odd_template(rng: random.Random, template: str) -> str:
    """A chat template that is broken, endless or another one."""
    if rng.random() < 0.6:
        return rng.choice(TEMPLATES)
    return odd_bytes(rng, template.encode()).decode(errors="replace")[:100_000]


def odd_lines(rng: random.Random, content: bytes) -> bytes:
    """JSON lines with one of them changed, taken away, doubled or moved."""
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, rng.choice(lines))
        case 2:
            return content + content
        case 3:
            lines[at] = lines[at][: rng.randrange(len(lines[at]))]
        case 4:
            lines[at] = odd_bytes(rng, lines[at])
        case _:
            lines[at] = written(rng, odd_json(rng, json.loads(lines[at]))) + b"\n"
    return b"".join(lines)


def odd_file(rng: random.Random, file: Path, change: Callable[[random.Random, Any], Any]) -> None:
    """Change a JSON file: its content, its text, or its place in the folder."""
    match rng.randrange(10):
        case 0:
            file.unlink()
            file.symlink_to("nowhere")
        case 1:
            file.unlink()
            file.mkdir()
        case 2:
            file.unlink()
        case 3 | 4:
            file.write_bytes(odd_bytes(rng, file.read_bytes()))
        case _:
            file.write_bytes(written(rng, change(rng, json.loads(file.read_bytes()))))
