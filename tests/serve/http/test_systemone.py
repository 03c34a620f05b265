"""Decisions over HTTP: every bad input of the contract, images in parts, and the queue."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_calls import PORT, Calls, application, called
from deciding import DecidingEngine, multipart
from fakes import FakeReader, fake_model
from scripted import ScriptedEngine
from waiting import SECONDS
from wrong_requests import CHOICE, NOUL, WRONG, body, question

from mlx_diffgemma.decide.decision import Decision
from mlx_diffgemma.decide.request import MOST_BYTES, Request
from mlx_diffgemma.errors import NumericsError
from mlx_diffgemma.serve.engine.engine import Cancelled

PATH = "/v1/systemone"
STILL = b"\x89PNG\r\n\x1a\n....IHDR........IDAT...."
MOVING = b"\x89PNG\r\n\x1a\n....IHDR....acTL....IDAT...."
HOLE = "<image:0123>"


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with application(DecidingEngine(model=fake_model(sees=True))) as made:
        yield made


def asset(content: bytes = STILL, **fields: Any) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "image", "format": "png", "data_base64": data, **fields}


def with_asset(*assets: dict[str, Any], state: str | None = None) -> dict[str, Any]:
    """A request with images; each is mentioned unless `state` is given."""
    named = {f"{HOLE}{i}": each for i, each in enumerate(assets)}
    return body(state=" ".join(named) if state is None else state, assets=named)


# --- what is answered


def test_a_request_is_answered_with_its_headers(calls: Calls) -> None:
    reply = calls.post(PATH, body(questions={"a:b ☃": NOUL, "team": CHOICE}))
    assert reply.status == 200
    assert list(reply.json["answers"]) == ["a:b ☃", "team"]
    assert reply.headers["x-typesafe-request-id"]
    name, _, milliseconds = reply.headers["server-timing"].partition(";dur=")
    assert name == "model"
    assert float(milliseconds) >= 0
    assert reply.headers["content-type"] == "application/json"


def test_the_same_request_has_the_same_bytes(calls: Calls) -> None:
    assert calls.post(PATH, body()).body == calls.post(PATH, body()).body


def test_any_content_type_of_json_and_any_key_will_do(calls: Calls) -> None:
    headers = {"content-type": "text/plain", "authorization": "Bearer none"}
    assert calls.post(PATH, body(), headers=headers).status == 200


def test_answered_decisions_are_counted(calls: Calls) -> None:
    def count() -> int:
        lines = calls.get("/metrics").body.decode().splitlines()
        return int(next(x for x in lines if x.startswith("diffgemma_decisions_total ")).split()[1])

    before = count()
    calls.post(PATH, body())
    calls.post(PATH, body(state=None))
    assert count() == before + 1


def test_lenient_where_the_contract_is(calls: Calls) -> None:
    one = {"type": "choice", "criteria": {"": None}}
    level = {"type": "score", "criteria": ["only"]}
    like_a_label = {"type": "choice", "criteria": {"A": None, "yes": None}}
    questions = {"one": one, "level": level, "like": like_a_label}
    value = body(questions=questions, nobody_knows=[1])
    del value["model"]
    answers = calls.post(PATH, value).json["answers"]
    assert answers["one"]["confidence"] == 1
    assert answers["level"]["score"] == 0.0
    assert answers["like"]["choice"] in ("A", "yes")


# --- what is wrong


@pytest.mark.parametrize(("value", "location"), WRONG)
def test_what_is_wrong_is_422_at_its_place(
    calls: Calls, value: Any, location: tuple[str | int, ...]
) -> None:
    reply = calls.post(PATH, value)
    assert reply.status == 422
    [told] = reply.json["detail"]
    assert told["loc"] == ["body", *location]
    assert told["msg"]
    assert "\n" not in told["msg"]
    assert told["type"]


@pytest.mark.parametrize("name", ["jev-1.13.0", "gpt-5", ""])
def test_another_model_is_400_with_the_names_that_are_here(calls: Calls, name: str) -> None:
    reply = calls.post(PATH, body(model=name))
    assert reply.status == 400
    assert reply.json["detail"]["error_type"] == "api_usage_error"
    assert "fake-1" in reply.message
    assert "jev-latest" in reply.message


def test_a_state_over_the_context_is_413_with_both_counts() -> None:
    model = fake_model(context_length=512)
    with application(DecidingEngine(model=model)) as calls:
        reply = calls.post(PATH, body(state="word " * 2000))
    assert reply.status == 413
    assert reply.json["detail"]["error_type"]
    assert "512" in reply.message
    assert isinstance(model.reader, FakeReader)
    assert model.reader.prompts == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (with_asset(asset(), state="no image"), HOLE),
        (with_asset(asset(b"GIF89a")), HOLE),
        (with_asset(asset(MOVING)), HOLE),
        (with_asset(asset(b"")), HOLE),
        (with_asset({"type": "image", "part": "asset-0"}), "asset-0"),
        (with_asset({"type": "image", "part": ["asset-0"]}), "part"),
        (with_asset({"type": "image", "part": []}), "part"),
        (with_asset({"type": "image", "part": {}}), "part"),
        (with_asset({"type": "sound"}), HOLE),
        (with_asset("text"), HOLE),  # type: ignore[arg-type]
        (body(assets={}), "assets"),
        (body(assets=[]), "assets"),
        (with_asset(asset(STILL[:8] + b"broken")), HOLE),
    ],
)
def test_an_image_that_is_none_is_422_naming_it(calls: Calls, value: Any, said: str) -> None:
    reply = calls.post(PATH, value)
    assert reply.status == 422
    [told] = reply.json["detail"]
    assert said in f"{told['loc']} {told['msg']}"


def test_a_model_that_sees_nothing_says_so() -> None:
    with application(DecidingEngine()) as calls:
        reply = calls.post(PATH, with_asset(asset()))
    assert reply.status == 422
    assert reply.json["detail"][0]["loc"][:2] == ["body", "assets"]


def test_a_body_over_64_mb_is_413(calls: Calls) -> None:
    for headers in ({"content-length": str(MOST_BYTES + 1)}, {}):
        content = b"{}" if headers else b" " * (MOST_BYTES + 1)
        reply = calls.post(PATH, content, headers=headers)
        assert reply.status == 413
        assert reply.json["detail"]["error_type"] == "request_too_large"


def test_encodings(calls: Calls) -> None:
    for encoding in ("gzip", "br"):
        reply = calls.post(PATH, body(), headers={"content-encoding": encoding})
        assert (reply.status, reply.json["detail"]["error_type"]) == (415, "unsupported_encoding")
    reply = calls.post(PATH, b"\x28\xb5\x2f\xfd\x20", headers={"content-encoding": "zstd"})
    assert reply.status == 422
    assert reply.json["detail"][0]["loc"] == ["body"]


def test_a_foreign_page_is_403(calls: Calls) -> None:
    reply = calls.post(PATH, body(), headers={"origin": "https://evil.example"})
    assert (reply.status, reply.json["detail"]["error_type"]) == (403, "permission_error")


def test_numbers_that_are_not_finite_are_a_500_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(request: Request) -> Decision:
        raise NumericsError("question 1: a log-probability is not finite; the weights are broken.")

    with application(ScriptedEngine(decision=broken)) as calls:
        reply = calls.post(PATH, body())
    assert (reply.status, reply.json["detail"]["error_type"]) == (500, "internal_error")
    assert "question 1" in reply.message
    assert "question 1" in caplog.text


# --- forms in parts


def test_images_come_in_parts(calls: Calls) -> None:
    value = with_asset({"type": "image", "part": "asset-0"})
    content, headers = multipart(request=json.dumps(value).encode(), asset_0=STILL)
    reply = calls.post(PATH, content, headers=headers)
    assert reply.status == 200
    in_json = calls.post(PATH, with_asset(asset()))
    assert reply.json["answers"] == in_json.json["answers"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"asset_0": STILL}, "request"),
        ({"request": b"{"}, "no JSON"),
        ({"request": b"\xff"}, "not UTF-8"),
        ({"request": json.dumps(with_asset({"type": "image", "part": "x"})).encode()}, "'x'"),
        (
            {
                "request": json.dumps(with_asset(*[{"type": "image", "part": "a"}] * 2)).encode(),
                "a": STILL,
            },
            "twice",
        ),
    ],
)
def test_a_form_that_lacks_something_is_422(
    calls: Calls, parts: dict[str, bytes], said: str
) -> None:
    content, headers = multipart(**parts)
    for cut in (len(content), len(content) // 2):
        reply = calls.post(PATH, content[:cut], headers=headers)
        assert reply.status == 422
        [told] = reply.json["detail"]
        assert cut < len(content) or said in f"{told['loc']} {told['msg']}"


# --- the queue


def test_a_full_queue_is_529_and_says_when_to_come_back() -> None:
    engine = DecidingEngine(seconds=0.2)

    async def all_at_once(calls: Calls) -> list[Any]:
        content = json.dumps(body()).encode()
        return await asyncio.gather(*(called(calls.app, "POST", PATH, {}, content) for _ in "1234"))

    with application(engine, max_queue=1) as calls:
        replies = calls.runner.run(all_at_once(calls))
    assert sorted(reply.status for reply in replies) == [200, 200, 529, 529]
    for reply in replies:
        if reply.status == 529:
            assert reply.json["detail"]["error_type"] == "overloaded"
            assert int(reply.headers["retry-after"]) > 0


def test_a_model_that_is_loaded_is_503() -> None:
    with application(DecidingEngine(), loaded=False) as calls:
        reply = calls.post(PATH, body())
        assert (reply.status, reply.json["detail"]["error_type"]) == (503, "loading")
        assert int(reply.headers["retry-after"]) > 0
        calls.host.worker.stop()
        assert calls.post(PATH, body()).json["detail"]["error_type"] == "stopping"


def test_who_goes_is_not_decided_for() -> None:
    begun: list[bool] = []
    seen: list[bool] = []

    class Waiting(DecidingEngine):
        def decide(self, request: Request, cancelled: Cancelled) -> Decision:
            begun.append(True)
            try:
                return super().decide(request, cancelled)
            finally:
                seen.append(cancelled())

    async def gone(calls: Calls) -> None:
        content = json.dumps(body()).encode()
        messages = [{"type": "http.request", "body": content, "more_body": False}]
        headers = [(b"host", f"127.0.0.1:{PORT}".encode())]
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
        scope |= {"server": ("127.0.0.1", PORT), "query_string": b"", "root_path": ""}

        async def receive() -> Any:
            if messages:
                return messages.pop()
            while not begun:
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        await asyncio.wait_for(calls.app(scope, receive, send), SECONDS)

    engine = Waiting(seconds=10 * SECONDS)
    with application(engine) as calls:
        calls.runner.run(gone(calls))
        assert calls.records[-1].status == 499
    assert seen == [True]
    assert engine.cancelled == 1


def test_questions_are_refused_by_what_only_the_model_knows(calls: Calls) -> None:
    assert calls.post(PATH, question(depends_on=["q"])).status == 422
