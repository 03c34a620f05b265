"""The checks in front of every route: the origin of a request, and its key.

A page of another site can send requests to a server of this machine, under a name of its own that
resolves to 127.0.0.1 as well (DNS rebinding): hence the Host header; Origin tells the page itself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import shown
from ..families import family_of
from ..refusal import Refusal
from .host import Access
from .replies import refused

OPEN = frozenset({"/", "/health", "/favicon.ico"})
"""Paths that need no key: the page asks for one, and what looks after a server has none."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
SAFE = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}
TOLD = "x-request-id, request-id, x-typesafe-request-id, retry-after, server-timing"
A_DAY = "86400"


@dataclass(frozen=True)
class Guard:
    """ASGI middleware: refuses who may not ask, and puts the same few headers on every reply."""

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by a refusal, or let it through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin if origin in self.access.origins else None

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(MutableHeaders(scope=message), allowed)
            await send(message)

        app = self._instead(scope, headers) or self.app
        await app(scope, receive, sent)

    def _instead(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """The reply in place of the route's; None where the request may go on."""
        try:
            require_host(headers, self.access, _port(scope))
            require_origin(headers, self.access)
            if preflight := _preflight(scope, headers):
                return preflight
            if scope["path"] not in OPEN:
                require_key(headers, self.access.key)
        except Refusal as refusal:
            return refused(refusal, family_of(scope["path"]))
        return None


def require_host(headers: Headers, access: Access, port: int | None) -> None:
    """Refusal where a request is addressed to another server; port: this one's."""
    named = headers.getlist("host")
    found = HOST.fullmatch(named[0]) if len(named) == 1 else None
    got = shown(", ".join(named)) or "missing"
    if found is None or not _is_ours(found[1], access):
        said = f"Host is {got}, which is no address of this server"
        raise Refusal("forbidden", f"{said}; a name of its own may be added by --allow-host NAME.")
    if (asked := int(found[2] or 80)) != port:
        said = f"Host is {got}, of port {asked}, and this server has {port}"
        raise Refusal("forbidden", f"{said}; what forwards to it has to use the same port.")


def require_origin(headers: Headers, access: Access) -> None:
    """Refusal for the request of a foreign page; programs send no Origin."""
    own = f"http://{headers.get('host', '')}".lower()
    for origin in headers.getlist("origin"):
        if origin.lower() != own and origin not in access.origins:
            said = f"Origin is {shown(origin)}, whose pages may not ask; start with --cors ORIGIN."
            raise Refusal("forbidden", said)


def require_key(headers: Headers, key: bytes | None) -> None:
    """Refusal where the key is not sent; without one, whatever is sent is none of our business."""
    if key is None:
        return
    sent = list(_keys(headers))
    if not sent:
        said = "no key was sent; send `Authorization: Bearer KEY`, or x-api-key."
        raise Refusal("no_key", said)
    if not sum(hmac.compare_digest(each, key) for each in sent):  # all are compared
        raise Refusal("wrong_key", "the key is not this server's.")


def _keys(headers: Headers) -> Iterable[bytes]:
    """The keys that a request sends, as bytes."""
    yield from (each.encode("latin-1") for each in headers.getlist("x-api-key") if each)
    for each in headers.getlist("authorization"):
        scheme, _, key = each.strip().partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            yield key.strip().encode("latin-1")


def _is_ours(host: str, access: Access) -> bool:
    """True for a name or address of this server; [] stand around an address of version 6."""
    bare = host.strip("[]").lower().removesuffix(".")
    if bare == "localhost" or bare in access.hosts:
        return True
    try:
        address = ip_address(bare)
    except ValueError:
        return False
    return access.any_address or address.is_loopback


def _port(scope: Scope) -> int | None:
    """The port that the request came in by."""
    server = scope.get("server")
    return server[1] if server else None


def _preflight(scope: Scope, headers: Headers) -> Response | None:
    """The reply to what a browser asks before the request of a foreign page; None for all else."""
    if scope["method"] != "OPTIONS" or "origin" not in headers:
        return None
    if "access-control-request-method" not in headers:
        return None
    more = {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": A_DAY}
    if wanted := headers.get("access-control-request-headers"):
        more["Access-Control-Allow-Headers"] = wanted
    if headers.get("access-control-request-private-network") == "true":
        more["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=more)


def _complete(headers: MutableHeaders, allowed: str | None) -> None:
    """Add what every reply has; allowed: the foreign origin that may read it."""
    for name, value in SAFE.items():
        headers.setdefault(name, value)
    if allowed is not None:
        headers["Access-Control-Allow-Origin"] = allowed
        headers["Access-Control-Expose-Headers"] = TOLD
        headers.add_vary_header("Origin")
