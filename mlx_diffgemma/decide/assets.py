"""The images of a request: those that placeholders stand for, and those in front of the state."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError, brief

FORMATS = ("png", "jpg", "jpeg")
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)


@dataclass(frozen=True)
class Asset:
    """An image, and the text in state, instructions or criteria that it takes the place of.

    content: bytes of a file, or what `Texts.image` made of them.
    """

    placeholder: str
    content: object


def read_assets(value: Mapping[str, Any], parts: Mapping[str, bytes]) -> tuple[Asset, ...]:
    """The assets of a request, every one mentioned; parts: the files of a multipart body."""
    assets = value.get("assets")
    if assets is None:
        return ()
    if not isinstance(assets, dict):
        said = f"is {brief(assets)}, expected an object: a placeholder and an image each."
        raise RequestError(("assets",), said, "dict_type")
    if not assets:
        raise RequestError(("assets",), "empty, expected an image; leave it out.", "too_short")
    told = list(strings([value["state"], value.get("instructions"), value["questions"]]))
    claimed = list[str]()
    for name, asset in assets.items():
        at = ("assets", name)
        if not name.strip():
            raise RequestError(at, "a blank placeholder, expected some text.")
        if not any(name in text for text in told):
            raise RequestError(at, "no text mentions it; leave it out, or write it where it is.")
        if not isinstance(asset, dict) or asset.get("type") != "image":
            raise RequestError((*at, "type"), "expected image.", "literal_error")
        if "part" in asset:
            part = asset["part"]
            if not isinstance(part, str):
                said = f"is {brief(part)}, expected the name of a part of the body."
                raise RequestError((*at, "part"), said, "string_type")
            if part in claimed:
                raise RequestError((*at, "part"), f"{brief(part)} is claimed twice.")
            claimed.append(part)
    return tuple(
        Asset(name, _content(("assets", name), asset, parts)) for name, asset in assets.items()
    )


def _content(at: tuple[str, str], asset: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    """The bytes of an asset: a PNG or JPEG file that does not move."""
    if "part" in asset:
        if asset["part"] not in parts:
            raise RequestError((*at, "part"), f"{brief(asset['part'])} is no part of the body.")
        content = parts[asset["part"]]
    else:
        if asset.get("format") not in FORMATS:
            said = f"is {brief(asset.get('format'))}, expected png, jpg or jpeg."
            raise RequestError((*at, "format"), said, "literal_error")
        content = _decoded((*at, "data_base64"), asset.get("data_base64"))
    if not content.startswith((PNG, JPEG)):
        raise RequestError(at, "neither a PNG nor a JPEG file; convert it.")
    if content.startswith(PNG) and b"acTL" in content[: content.find(b"IDAT")]:
        raise RequestError(at, "an animated PNG, expected a still image; send one frame.")
    return content


def strings(value: Any) -> Iterator[str]:
    """Every string in a value of JSON that is no key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def read_images(value: Any) -> tuple[bytes, ...]:
    """The images in front of the state: data URLs, or objects with content_type and base64."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError(("images",), f"is {brief(value)}, expected a list.", "list_type")
    return tuple(_image(("images", i), each) for i, each in enumerate(value))


def _image(at: tuple[str, int], value: Any) -> bytes:
    if isinstance(value, str) and (found := DATA_URL.fullmatch(value)):
        return _decoded(at, found[1])
    if isinstance(value, dict) and str(value.get("content_type", "")).startswith("image/"):
        return _decoded((*at, "base64"), value.get("base64"))
    said = "expected a data:image/...;base64, URL, or an object with content_type and base64."
    raise RequestError(at, said)


def _decoded(at: tuple[str | int, ...], value: Any) -> bytes:
    if not isinstance(value, str):
        raise RequestError(at, f"is {brief(value)}, expected base64.", "string_type")
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(at, f"no base64: {error}.") from None
    if not content:
        raise RequestError(at, "empty, expected an image.")
    return content
