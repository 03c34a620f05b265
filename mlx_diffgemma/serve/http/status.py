"""Routes that tell of the server itself: its model, its health, its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...version import __version__
from ..engine.worker import State
from .host import Host
from .metrics import TEXT, Metrics, family
from .models import model_of, models_of
from .replies import json_reply

RETRY_SECONDS = 5  # after which a model may have been loaded


def status_routes(host: Host, metrics: Metrics) -> list[Route]:
    """The routes that ask nothing of the model."""

    async def models(request: Request) -> Response:
        return json_reply(models_of(host.engine.facts))

    async def model(request: Request) -> Response:
        """The model that is here, whatever its name: it answers under every name."""
        return json_reply(model_of(host.engine.facts))

    async def health(request: Request) -> Response:
        if host.worker.queue.closed is None:  # a model that comes back lets requests wait for it
            return json_reply(health_of(host))
        return json_reply(health_of(host), 503, {"Retry-After": str(RETRY_SECONDS)})

    async def counted(request: Request) -> Response:
        lines = (*metrics.lines(), *metrics_of(host))
        return Response("".join(f"{line}\n" for line in lines), media_type=TEXT)

    return [
        Route("/v1/models", models),
        Route("/v1/models/{id:path}", model),
        Route("/health", health),
        Route("/metrics", counted),
    ]


def health_of(host: Host) -> dict[str, object]:
    """The body of /health."""
    queue, share = host.worker.figures(), host.engine.facts.share
    return {
        "status": host.worker.state,
        "model": host.engine.facts.name,
        "version": __version__,
        "queue": {
            "waiting": queue.waiting,
            "running": queue.running,
            "limit": host.worker.queue.most,
        },
        "share": share and vars(share),
    }


def metrics_of(host: Host) -> Iterator[str]:
    """The counts of worker and engine, in lines of Prometheus's text."""
    queue, counters = host.worker.figures(), host.engine.counters
    now: dict[str, tuple[str, float]] = {
        "queue_length": ("Requests that wait for their turn.", queue.waiting),
        "running": ("Requests that the model works on.", queue.running),
        "kept_conversations": ("Conversations whose prefix is kept.", counters.kept_conversations),
        "kept_bytes": ("Bytes of kept prefixes.", counters.kept_bytes),
        "memory_bytes": ("Bytes that MLX has in use.", counters.memory_bytes),
    }
    for name, (told, value) in now.items():
        yield from family(name, "gauge", told, [({}, value)])
    totals: dict[str, tuple[str, float]] = {
        "denoising_steps": ("Denoising steps.", counters.steps),
        "tokens": ("Tokens generated.", counters.tokens),
        "prompt_tokens": ("Tokens of prompts.", counters.prompt_tokens),
        "encoded_tokens": (
            "Tokens of prompts that no kept prefix spared.",
            counters.encoded_tokens,
        ),
        "loads": ("Times that the weights were loaded.", counters.loads),
        "waiting_seconds": ("Seconds that requests have waited.", queue.waited_seconds),
        "running_seconds": ("Seconds that the model has worked.", queue.running_seconds),
    }
    for name, (told, value) in totals.items():
        yield from family(f"{name}_total", "counter", told, [({}, value)])
    ends = {name: getattr(queue, name) for name in ("answered", "cancelled", "failed", "refused")}
    ended = [({"end": end}, number) for end, number in ends.items()]
    yield from family("ended_total", "counter", "Requests by the end that they found.", ended)
    states = [({"state": each}, int(each == host.worker.state)) for each in get_args(State)]
    yield from family("state", "gauge", "1 for the state that the server is in.", states)
    labels = {"model": host.engine.facts.name, "version": __version__}
    if share := host.engine.facts.share:
        labels |= {"share": share.mode, "macs": str(share.size)}
    yield from family("info", "gauge", "The model, and the program's version.", [(labels, 1)])
