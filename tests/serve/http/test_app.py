"""Routes: those that are there, those that are not, and errors that are nobody's but ours."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_calls import Calls, application
from scripted import ScriptedEngine
from valid_requests import VALID

from mlx_diffgemma.errors import NumericsError
from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.version import __version__

PAGE = Path(__file__).parents[3] / "docs/serve.md"
ROUTES = (*VALID, "/v1/models", "/v1/models/any", "/health", "/metrics")


class Broken(ScriptedEngine):
    """An engine with a bug in it."""

    def prepare(self, asked: Asked) -> Asked:
        raise ZeroDivisionError("a secret of ours")

    count = prepare  # type: ignore[assignment]


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with application() as made:
        yield made


@pytest.mark.parametrize("path", [path for path in VALID if path != "/v1/systemone"])
def test_every_dialect_answers(calls: Calls, path: str) -> None:
    for value in VALID[path]:
        assert calls.post(path, value).status == 200


# --- paths and methods


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/v1/chat/completions/x",
     "/health/", "/v1/messagesx", "/..", "/../etc/passwd", "//", "/\x00", "/\x1b[31m", "/ä" * 900],
)  # fmt: skip
def test_an_unknown_path_is_404_before_any_work(calls: Calls, path: str) -> None:
    asked = len(calls.host.engine.asked)  # type: ignore[attr-defined]
    for method in ("GET", "POST", "PUT", "DELETE"):
        reply = calls.call(method, path, body=b"no json")
        assert reply.status == 404
        assert reply.json["error"]["code"] == "not_found"
        assert len(reply.message) < 500
        assert reply.message.isprintable()
    assert len(calls.host.engine.asked) == asked  # type: ignore[attr-defined]


def test_an_unknown_path_of_a_family_has_its_shape(calls: Calls) -> None:
    assert calls.get("/v1/messages/x").json["error"]["type"] == "not_found_error"
    assert calls.get("/v1/systemone/x").json["detail"]["error_type"] == "not_found"


def test_a_path_without_v1_is_told_the_right_one(calls: Calls) -> None:
    """It repeats the path that was asked for: once it named the last of the routes."""
    said = calls.post("/chat/completions", {}).message
    assert said == "/chat/completions is not here; try /v1/chat/completions."
    assert calls.get("/nowhere").message.startswith("/nowhere is not here; the paths are /v1/chat/")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_another_method_is_405(calls: Calls, path: str, method: str) -> None:
    right = "POST" if path in VALID else "GET"
    if method == right:
        return
    reply = calls.call(method, path)
    assert reply.status == 405
    assert right in reply.headers["allow"]
    assert method in reply.message


# --- errors of ours


@pytest.mark.parametrize("path", [path for path in VALID if path != "/v1/systemone"])
def test_a_bug_is_logged_and_told_without_its_words(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with application(Broken()) as calls:
        reply = calls.post(path, VALID[path][0])
        assert reply.status == 500
        assert b"secret" not in reply.body
        assert b"Traceback" not in reply.body
        assert reply.headers["x-content-type-options"] == "nosniff"
        kind = reply.json["error"]["type"]
        assert kind == ("api_error" if "messages" in path else "server_error")
        assert calls.get("/health").status == 200
    assert "a secret of ours" in caplog.text


def test_weights_that_are_not_finite_are_a_500() -> None:
    engine = ScriptedEngine([NumericsError("row 3 is not finite.")])
    with application(engine) as calls:
        assert calls.post("/v1/chat/completions", VALID["/v1/chat/completions"][0]).status == 500


# --- what a server says of itself


def test_a_model_is_found_by_clients_of_three_interfaces(calls: Calls) -> None:
    listed = calls.get("/v1/models").json
    assert listed["object"] == "list"
    assert listed["has_more"] is False
    [model] = listed["data"]
    assert calls.get("/v1/models/claude-sonnet-9").json == model
    assert calls.get("/v1/models/mlx-community/some-thing").json == model
    assert model["id"] == listed["first_id"] == listed["last_id"] == "scripted"
    assert (model["object"], model["type"]) == ("model", "model")
    assert model["context_length"] == model["max_input_tokens"] == 2048
    assert (model["created"], model["created_at"]) == (1_700_000_000, "2023-11-14T22:13:20Z")
    [named] = listed["models"]
    assert named["name"] == "scripted"
    assert named["description"]
    assert named["release_date"] == "2023-11-14"


@pytest.mark.slow
def test_the_sdks_read_the_models(calls: Calls) -> None:
    from anthropic.types import ModelInfo
    from openai.types import Model

    [model] = calls.get("/v1/models").json["data"]
    assert Model.model_validate(model, strict=True).id == "scripted"
    assert ModelInfo.model_validate(model).max_input_tokens == 2048


def test_health_says_ready(calls: Calls) -> None:
    reply = calls.get("/health")
    assert reply.status == 200
    assert reply.json == {
        "status": "ready",
        "model": "scripted",
        "version": __version__,
        "queue": {"waiting": 0, "running": 0, "limit": 8},
        "share": None,
    }


def test_a_server_that_loads_or_stops_says_when_to_come_back() -> None:
    with application(loaded=False) as calls:
        health = calls.get("/health")
        assert (health.status, health.json["status"]) == (503, "loading")
        assert int(health.headers["retry-after"]) > 0
        for path, status in (("/v1/chat/completions", 503), ("/v1/messages", 529)):
            reply = calls.post(path, VALID[path][0])
            assert reply.status == status
            assert int(reply.headers["retry-after"]) > 0
        assert calls.get("/v1/models").status == 200
        calls.host.worker.stop()
        health = calls.get("/health")
        assert (health.status, health.json["status"]) == (503, "stopping")
        assert calls.post("/v1/messages", VALID["/v1/messages"][0]).status == 529


def test_metrics_count_by_route_and_status() -> None:
    with application() as calls:
        calls.post("/v1/chat/completions", VALID["/v1/chat/completions"][0])
        calls.post("/v1/chat/completions", {})
        calls.get('/nowhere"\n')
        calls.get("/v1/models/some-model")
        reply = calls.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.body.decode().splitlines()
    for line in (
        'diffgemma_requests_total{route="/v1/chat/completions",status="200"} 1',
        'diffgemma_requests_total{route="/v1/chat/completions",status="400"} 1',
        'diffgemma_requests_total{route="other",status="404"} 1',
        'diffgemma_requests_total{route="/v1/models/{id}",status="200"} 1',
        'diffgemma_request_seconds_bucket{route="/v1/chat/completions",le="+Inf"} 2',
        'diffgemma_request_seconds_count{route="/v1/chat/completions"} 2',
        'diffgemma_state{state="ready"} 1',
        "diffgemma_queue_length 0",
        "diffgemma_denoising_steps_total 0",
    ):
        assert line in lines
    names = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    page = PAGE.read_text().partition("## Metrics")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z_]+)`", page)) - {"diffgemma_"}
    assert {name.removeprefix("diffgemma_") for name in names} == told
    assert all(line.startswith(("#", *names)) for line in lines)
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(set(samples)) == len(samples)


# --- what is kept of a request


def test_a_record_has_times_and_tokens_and_nothing_that_was_said(calls: Calls) -> None:
    calls.records.clear()
    reply = calls.post("/v1/chat/completions", VALID["/v1/chat/completions"][0])
    [record] = calls.records
    assert (record.method, record.path, record.status) == ("POST", "/v1/chat/completions", 200)
    assert record.usage is not None
    assert record.usage.completion == 5
    assert record.seconds >= 0
    assert "17 + 25" not in repr(record)
    assert reply.json["id"].endswith(record.key)
    assert reply.headers["x-request-id"] == record.key


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/models", "x-request-id"), ("/v1/messages", "request-id"),
     ("/v1/systemone", "x-typesafe-request-id")],
)  # fmt: skip
def test_every_family_has_its_header_for_the_key(calls: Calls, path: str, name: str) -> None:
    calls.records.clear()
    for headers in ({}, {"host": "evil.example"}):
        reply = calls.get(path, headers=headers)
        assert reply.headers[name] == calls.records.pop().key


def test_a_stream_leaves_its_usage_too(calls: Calls) -> None:
    calls.records.clear()
    value: dict[str, Any] = {**VALID["/v1/chat/completions"][0], "stream": True}
    reply = calls.post("/v1/chat/completions", value)
    assert reply.body.endswith(b"data: [DONE]\n\n")
    [record] = calls.records
    assert record.usage is not None
    assert record.usage.prompt == 12


def test_nothing_is_logged_of_requests_that_are_wrong(
    calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        calls.post("/v1/chat/completions", json.dumps({"messages": "secret"}).encode())
        calls.get("/nowhere")
    assert caplog.records == []
