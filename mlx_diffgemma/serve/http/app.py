"""The application: every route, and what stands around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ...errors import shown
from ..dialects.dialect import Dialect
from ..dialects.routes import DIALECTS
from ..families import family_of
from ..page.page import page_route
from ..refusal import Refusal
from .count import count_route
from .generate import route
from .guard import Guard
from .host import Host
from .metrics import Metrics
from .replies import refused
from .status import status_routes
from .systemone import systemone_route
from .watch import GONE, Record, Watch, internal, nowhere

OTHER = "other"  # the route of all paths that are not here
MODELS = "/v1/models/"


def make_app(
    host: Host,
    dialects: Sequence[Dialect] = DIALECTS,
    log: Callable[[Record], None] = nowhere,
) -> ASGIApp:
    """The application of a host. log: told of every request when it is over."""
    metrics = Metrics()
    routes = [
        *(route(dialect, host) for dialect in dialects),
        count_route(host),
        systemone_route(host, metrics),
        *status_routes(host, metrics),
        page_route(),
    ]
    inner = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _no_route(routes),
            Refusal: _refusal,
            ClientDisconnect: _gone,
            Exception: _bug,
        },
    )
    inner.router.redirect_slashes = False
    named = {route.path for route in routes}

    def route_of(path: str) -> str:
        if path.startswith(MODELS):
            return f"{MODELS}{{id}}"
        return path if path in named else OTHER

    return Watch(Guard(inner, host.access), host.make, metrics, route_of, log)


def _no_route(routes: Sequence[Route]) -> Callable[[Request, Exception], Response]:
    """The reply where Starlette finds no route, or none for a method."""

    def reply(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, family = shown(request.url.path), family_of(request.url.path)
        if error.status_code == 405:
            said = f"{shown(request.method)} {path} is not known; this path takes another method."
            return refused(Refusal("method", said), family, error.headers)
        near = f"/v1{request.url.path}"
        paths = [route.path for route in routes]
        known = [each for each in paths if each.startswith("/v1/") and "{" not in each]
        hint = f"try {near}" if near in known else f"the paths are {', '.join(known)}"
        return refused(Refusal("not_found", f"{path} is not here; {hint}."), family)

    return reply


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error, family_of(request.url.path))


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


def _bug(request: Request, error: Exception) -> Response:
    return refused(internal(), family_of(request.url.path))
