"""The page's file, and the headers that keep it to itself."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FILE = "page.html"


@dataclass(frozen=True)
class Page:
    """The bytes of the page, and the headers of its reply."""

    body: bytes
    headers: Mapping[str, str]


def page_route() -> Route:
    """The route of the page; its file is read once."""
    page = read_page()

    async def reply(request: Request) -> Response:
        return Response(page.body, headers=page.headers, media_type="text/html")

    return Route("/", reply)


def read_page() -> Page:
    """The page that came with the package."""
    source = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": policy(source),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
    return Page(source.encode(), headers)


def policy(source: str) -> str:
    """The Content-Security-Policy of a page: its own script and style run, by their hashes.

    It may ask its own server alone, and no text of its script becomes HTML (trusted types).
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(source, 'script')}",
            f"style-src {_hashes(source, 'style')}",
            "img-src data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hashes(source: str, element: str) -> str:
    """The sources of a directive: one for each element of this name."""
    found = re.findall(rf"<{element}>(.*?)</{element}>", source, re.DOTALL)
    digests = (hashlib.sha256(text.encode()).digest() for text in found)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
