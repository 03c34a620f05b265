"""Requests for answers, from a socket to a socket, with a scripted engine behind them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from live import Running, running
from plain_dialect import PLAIN, Client, words
from scripted import ScriptedEngine, Step, done, said
from waiting import SECONDS, wait_for

from mlx_diffgemma.errors import FitError, ImageError, NumericsError, PromptError
from mlx_diffgemma.serve.asked import Asked
from mlx_diffgemma.serve.events import Begun, Draft, Failed, Text
from mlx_diffgemma.serve.families import OPENAI
from mlx_diffgemma.serve.http.stream import Pace
from mlx_diffgemma.serve.refusal import STOPPING, Refusal

BEGUN = Begun(7, 12, 0)
HOURS = 10_000.0  # of a step that does not end by itself while a test runs
LONG: list[Step] = [BEGUN, Text("a"), HOURS, done()]


def echo(asked: Asked) -> list[Step]:
    """An answer that repeats its question; "wait" makes it take hours, "encode" before it."""
    prompt = asked.prompt
    if prompt == "encode":
        return [HOURS, BEGUN, done()]
    return LONG if prompt == "wait" else said(prompt, " was the question.")


@contextmanager
def serving(engine: Any = None, **options: Any) -> Iterator[Running]:
    with running(engine or ScriptedEngine(echo), [PLAIN], **options) as server:
        yield server


def idle(server: Running) -> bool:
    """True where nobody has a place."""
    return server.worker.figures().places == 0


def answered(client: Client) -> list[Any]:
    with client:
        status, _ = client.head()
        assert status == 200
        return words(client.lines())


def refused(client: Client) -> tuple[int, dict[str, str], dict[str, Any]]:
    with client:
        status, headers = client.head()
        return status, headers, client.body()["error"]


@contextmanager
def busy(server: Running, prompt: str = "wait") -> Iterator[Client]:
    """A client whose answer takes hours, and is on its way."""
    with Client(server.port, prompt=prompt) as client:
        wait_for(lambda: server.worker.figures().running == 1)
        yield client


def test_a_stream_in_full():
    with serving() as server:
        assert answered(Client(server.port, prompt="Why")) == [
            {"open": "k1"},
            {"begun": 0},
            {"text": "Why"},
            {"text": " was the question."},
            {"done": "stop", "warnings": []},
            "[DONE]",
        ]
        assert idle(server)  # at once: the client has the end


def test_one_body():
    with serving() as server, Client(server.port, prompt="Why", stream=False) as client:
        status, headers = client.head()
        assert (status, headers["content-type"]) == (200, "application/json")
        assert client.body() == {
            "key": "k1",
            "text": "Why was the question.",
            "done": "stop",
            "w": [],
        }


@pytest.mark.parametrize("stream", [True, False])
def test_what_cannot_be_asked_is_refused_before_the_first_byte(stream):
    engine = ScriptedEngine()
    with serving(engine) as server:
        status, headers, error = refused(Client(server.port, prompt=3, stream=stream))
        assert (status, error["param"]) == (400, "prompt")
        assert headers["content-type"] == "application/json"
        assert idle(server)
    assert not engine.asked


@dataclass
class Unprepared(ScriptedEngine):
    """Raises an error, or waits at a gate, where a question is prepared."""

    error: Exception | None = None
    gate: threading.Event | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    threads: set[str] = field(default_factory=set)

    def prepare(self, asked: Asked) -> Asked:
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        if self.gate:
            assert self.gate.wait(SECONDS)
        if self.error:
            raise self.error
        return super().prepare(asked)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refusal("context", "too long."), 400, "context_length_exceeded"),
        (PromptError("it is empty."), 400, None),
        (ImageError("it is broken."), 400, None),
        (FitError("no room."), 400, "context_length_exceeded"),
    ],
)
def test_what_cannot_be_prepared_is_refused_before_the_first_byte(error, status, code):
    with serving(Unprepared(error=error)) as server:
        got, _, told = refused(Client(server.port))
        assert (got, told["code"]) == (status, code)
        assert told["message"].startswith(str(error).rstrip("."))
        assert idle(server)


def test_an_error_of_ours_while_preparing_is_in_the_log_alone(caplog):
    with serving(Unprepared(error=NumericsError("nan in layer 3."))) as server:
        status, _, error = refused(Client(server.port))
        assert (status, error["code"]) == (500, "internal_error")
        assert "layer" not in error["message"]
    assert "nan in layer 3." in caplog.text


def test_a_bug_while_preparing_is_told_without_its_words(caplog):
    with serving(Unprepared(error=ValueError("secret"))) as server:
        status, _, error = refused(Client(server.port))
        assert status == 500
        assert "secret" not in str(error)
        assert idle(server)
    assert "secret" in caplog.text


def test_questions_are_prepared_at_the_desk():
    engine = Unprepared()
    with serving(engine) as server:
        answered(Client(server.port))
    assert all(name.startswith("ThreadPoolExecutor") for name in engine.threads)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([FitError("no room.")], "context_length_exceeded"),
        ([BEGUN, Text("a"), Failed(Refusal("internal", "nan."))], "internal_error"),
        ([BEGUN, Text("a"), ValueError("secret")], "internal_error"),
        ([BEGUN, Text("a")], "internal_error"),
    ],
)
def test_an_error_behind_the_opening_ends_the_stream_without_done(script, code, caplog):
    with serving(ScriptedEngine(script)) as server:
        said = answered(Client(server.port))
        assert [each["error"]["code"] for each in said if "error" in each] == [code]
        assert "error" in said[-1]
        assert "secret" not in str(said)
        status, _, error = refused(Client(server.port, stream=False))
        assert (status, error["code"]) == (400 if "context" in code else 500, code)
        assert idle(server)
    assert len(caplog.records) == (2 if code == "internal_error" else 0)


def test_the_next_one_is_served_after_a_crash(caplog):
    def script(asked: Asked) -> list[Step]:
        return [ValueError("a bug")] if asked.prompt == "break" else said(asked.prompt)

    with serving(ScriptedEngine(script)) as server:
        assert "error" in answered(Client(server.port, prompt="break"))[-1]
        assert answered(Client(server.port, prompt="fine"))[2] == {"text": "fine"}


def test_a_full_queue_says_when_to_come_again():
    with serving(max_queue=1) as server, busy(server), Client(server.port) as second:
        wait_for(lambda: server.worker.figures().waiting == 1)
        for stream in (True, False):
            status, headers, error = refused(Client(server.port, stream=stream))
            assert (status, error["code"]) == (429, "queue_full")
            assert int(headers["retry-after"]) >= 1
        second.close()
        wait_for(lambda: server.worker.figures().waiting == 0)
        with Client(server.port) as third:
            assert third.head()[0] == 200


def test_a_flood_of_requests_does_not_pile_up_at_the_desk():
    gate = threading.Event()
    engine = Unprepared(script=said("a"), gate=gate)
    with serving(engine, max_queue=2) as server:
        clients = [Client(server.port) for _ in range(3)]
        wait_for(lambda: server.worker.figures().places == 3)
        assert refused(Client(server.port))[0] == 429
        gate.set()
        assert [answered(client)[-1] for client in clients] == ["[DONE]"] * 3


def test_who_waits_is_answered_in_order():
    order: list[str] = []

    def script(asked: Asked) -> list[Step]:
        order.append(asked.prompt)
        return echo(asked)

    with serving(ScriptedEngine(script)) as server:
        with busy(server):
            clients = []
            for number in range(4):
                clients.append(Client(server.port, prompt=f"{number}"))
                wait_for(lambda: server.worker.figures().waiting == len(clients))
        for number, client in enumerate(clients):
            assert {"text": f"{number}"} in answered(client)
    assert order == ["wait", "0", "1", "2", "3"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prompt", ["wait", "encode"])
def test_a_client_that_goes_ends_its_answer(prompt, stream):
    engine = ScriptedEngine(echo)
    with serving(engine) as server:
        with Client(server.port, prompt=prompt, stream=stream):
            wait_for(lambda: server.worker.figures().running == 1)
        wait_for(lambda: idle(server))
        assert server.worker.figures().cancelled == 1
    assert engine.cancelled == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_while_it_waits_is_never_answered(stream):
    engine = ScriptedEngine(echo)
    with serving(engine) as server, busy(server):
        with Client(server.port, prompt="second", stream=stream):
            wait_for(lambda: server.worker.figures().waiting == 1)
        wait_for(lambda: server.worker.figures().waiting == 0)
        assert server.worker.figures().running == 1
    assert server.worker.figures().answered == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_while_it_is_prepared_is_never_answered(stream):
    gate = threading.Event()
    engine = Unprepared(script=echo, gate=gate)
    with serving(engine) as server:
        with Client(server.port, stream=stream), Client(server.port, prompt="second"):
            assert engine.begun.wait(SECONDS)
            wait_for(lambda: server.worker.figures().places == 2)
        wait_for(lambda: idle(server))
        gate.set()
        assert answered(Client(server.port, prompt="third"))[2] == {"text": "third"}
    assert [asked.prompt for asked in engine.asked] == ["?", "third"]  # the second never began
    assert server.worker.figures().answered == 1


def test_a_client_that_goes_between_canvases_ends_its_answer():
    def script(asked: Asked) -> list[Step]:
        return [BEGUN, *[step for _ in range(20_000) for step in (Text("canvas "), 0.01)], done()]

    with serving(ScriptedEngine(script)) as server:
        with Client(server.port) as client:
            client.head()
            lines = client.lines()
            for _ in range(4):
                next(lines)
        wait_for(lambda: idle(server))
        assert server.worker.figures().cancelled == 1


def big(asked: Asked) -> list[Step]:
    """Half a megabyte of drafts at a time, and a text at the end."""
    drafts = [Draft("x" * (1 << 19), 0, step, 48, 3, 1.0) for step in range(60)]
    return [BEGUN, *(step for draft in drafts for step in (draft, 0.001)), Text("a"), done()]


def test_a_slow_reader_holds_nobody_up_and_misses_drafts():
    with serving(ScriptedEngine(big)) as server, Client(server.port, buffer=4096) as slow:
        wait_for(lambda: server.worker.figures().answered == 1)  # and nothing was read yet
        slow.head()
        said = words(slow.lines())
    assert {"text": "a"} in said
    assert said[-1] == "[DONE]"
    assert sum("draft" in word for word in said) < 50


def test_a_client_that_goes_while_it_is_sent_to_ends_its_answer():
    with serving(ScriptedEngine(lambda asked: [*big(asked)[:-2], HOURS, done()])) as server:
        with Client(server.port, buffer=4096):
            wait_for(lambda: server.worker.figures().running == 1)
            time.sleep(0.2)
        wait_for(lambda: idle(server))


def test_a_reader_that_takes_nothing_is_cut_off(caplog):
    script = [*big(None)[:-2], HOURS, done()]
    engine, pace = ScriptedEngine(script), Pace(patience=0.3)
    with serving(engine, pace=pace) as server, Client(server.port, buffer=4096):
        wait_for(lambda: server.worker.figures().running == 1)
        wait_for(lambda: idle(server))
    assert "took nothing for 0.3 s" in caplog.text


def test_a_stream_shows_signs_of_life_during_a_long_canvas_and_a_body_none():
    """How often they come is told on a clock of its own, in test_stream.py."""
    ready = threading.Event()

    def script(asked: Asked) -> Iterator[Step]:
        yield from (BEGUN, Text("a"))
        assert ready.wait(SECONDS)
        yield from (Text("b"), done())

    with serving(ScriptedEngine(script), pace=Pace(0.05)) as server:
        with Client(server.port) as client:
            client.head()
            lines = client.lines()
            while next(lines) != 'data: {"text":"a"}':
                pass
            assert [next(lines) for _ in range(5)] == [": ping"] * 5
            ready.set()
            assert list(lines)[-1] == "data: [DONE]"
        ready.clear()
        silent = Client(server.port, timeout=0.3, stream=False)
        with silent, pytest.raises(TimeoutError):  # as it would be without
            silent.head()
        ready.set()


def test_who_waits_in_the_queue_is_kept_alive():
    pace = Pace(keepalive=0.05)
    with serving(pace=pace) as server, busy(server), Client(server.port) as client:
        client.head()
        lines = client.lines()
        assert [next(lines) for _ in range(4)][1:] == [": ping"] * 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_ends_every_request(stream):
    script: list[Step] = [BEGUN, *[step for _ in range(10_000) for step in (Text("canvas "), 0.05)]]
    with serving(ScriptedEngine(script)) as server:
        with Client(server.port, stream=stream) as first:
            wait_for(lambda: server.worker.figures().running == 1)
            with Client(server.port) as second, Client(server.port, stream=False) as third:
                wait_for(lambda: server.worker.figures().waiting == 2)
                server.worker.stop()
                assert answered(second)[-1]["error"]["code"] == "stopping"
                status, headers, error = refused(third)
                assert (status, error["code"]) == (503, "stopping")
                assert int(headers["retry-after"]) >= 1
            assert refused(Client(server.port))[0] == 503
            if stream:
                end = answered(first)[-2]
                assert end["done"] == "length"
            else:
                assert first.head()[0] == 200
                end = first.body()
                assert (end["text"].split(), end["done"]) == (
                    ["canvas"] * len(end["text"].split()),
                    "length",
                )
            assert "server was stopped" in str(end)
        assert server.worker.join(SECONDS)


def test_a_stop_now_is_told_as_a_failure():
    with serving() as server, busy(server) as client:
        server.worker.stop(now=True)
        assert answered(client)[-1]["error"]["message"] == str(STOPPING)


def test_a_stop_now_is_a_status_of_what_is_not_streamed():
    with serving() as server, Client(server.port, prompt="wait", stream=False) as client:
        wait_for(lambda: server.worker.figures().running == 1)
        server.worker.stop(now=True)
        status, headers, error = refused(client)
        assert (status, error["code"]) == (503, "stopping")
        assert "retry-after" in headers


def test_while_the_model_is_loaded_requests_are_sent_away():
    gate = threading.Event()

    @dataclass
    class Slow(ScriptedEngine):
        def load(self) -> None:
            assert gate.wait(SECONDS)

    with serving(Slow(echo), loaded=False) as server:
        status, headers, error = refused(Client(server.port))
        assert (status, error["code"], headers["retry-after"]) == (503, "loading", "5")
        gate.set()
        server.worker.loaded.result(SECONDS)
        assert answered(Client(server.port))[-1] == "[DONE]"


def test_every_answer_has_its_own_words():
    """Eight clients at once, each with questions of its own."""
    with serving(max_queue=100) as server:
        wrong: list[Any] = []

        def ask(client: int) -> None:
            for number in range(10):
                name = f"{client}-{number}"
                said = answered(Client(server.port, prompt=name))
                wrong.extend([] if {"text": name} in said and said[-1] == "[DONE]" else [said])

        threads = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert not wrong
        assert server.worker.figures().answered == 80


def test_the_dialect_names_the_status_of_a_refusal():
    invalid = replace(OPENAI.names["invalid"], status=418)
    family = replace(OPENAI, names={**OPENAI.names, "invalid": invalid})
    odd = replace(PLAIN, family=family)
    with running(ScriptedEngine(), [odd]) as server:
        assert refused(Client(server.port, prompt=3))[0] == 418
