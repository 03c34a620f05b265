"""Thousands of requests that are wrong somewhere: each gets a clean reply."""

import pytest
from asgi_calls import Calls, Reply, application
from deciding import DecidingEngine
from fuzzed import Asked, requests, require_fit
from tiny_engines import tiny_engine

FEW, ALL, OF_A_MODEL = 500, 2000, 300


def asked(calls: Calls, each: Asked) -> Reply:
    return calls.call(each.method, each.path, headers=each.headers, body=each.body)


@pytest.mark.parametrize(
    ("seed", "count"), [(0, FEW), pytest.param(1, ALL, marks=pytest.mark.slow)]
)
def test_no_request_brings_an_error_of_the_server(
    seed: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    with application(DecidingEngine(), body_limit=1_000_000) as calls:
        for number, each in enumerate(requests(seed, count)):
            reply = asked(calls, each)
            try:
                require_fit(each, reply.status, reply.headers.get("content-type", ""), reply.body)
            except Exception as error:
                raise AssertionError(f"request {number} of seed {seed}: {each}") from error
        assert not [each for each in caplog.records if each.name.startswith("mlx_diffgemma")]
        assert calls.get("/health").json["queue"] == {"waiting": 0, "running": 0, "limit": 8}


@pytest.mark.slow
def test_no_request_brings_a_model_down() -> None:
    with application(tiny_engine()) as calls:
        for number, each in enumerate(requests(2, OF_A_MODEL)):
            reply = asked(calls, each)
            try:
                require_fit(
                    Asked(each.method, each.path, each.body, each.headers),
                    reply.status,
                    reply.headers.get("content-type", ""),
                    reply.body,
                )
            except Exception as error:
                raise AssertionError(f"request {number}: {each}") from error
        assert calls.get("/health").json["status"] == "ready"
