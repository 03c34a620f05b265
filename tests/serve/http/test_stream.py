"""An answer on its way to a socket, with an ASGI server that does what the test says."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from plain_dialect import PlainEncoder, read
from scripted import FACTS, USAGE, done
from waiting import without_waiting

from mlx_diffgemma.errors import FitError, NumericsError
from mlx_diffgemma.serve.dialects.dialect import Envelope
from mlx_diffgemma.serve.dialects.fields import Fields
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.engine.tickets import End, Queue
from mlx_diffgemma.serve.events import Begun, Draft, Event, Failed, Text
from mlx_diffgemma.serve.http.presence import Presence
from mlx_diffgemma.serve.http.stream import EventStream, Outbox, Pace
from mlx_diffgemma.serve.refusal import Refusal

BEGUN = Begun(7, 12, 0)
PING = ": ping\n\n"


def draft(text: str) -> Draft:
    return Draft(text, 0, 1, 48, 3, 1.0)


@dataclass
class Socket:
    """The server's side of ASGI. open: it takes what is sent; gone: the client has left."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # seconds of the loop's clock
    open: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def send(self, message: dict[str, Any]) -> None:
        if not self.open.is_set():
            await self.open.wait()
        self.sent.append(message)
        self.times.append(asyncio.get_running_loop().time())

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def text(self) -> str:
        """All that was sent, with a bar where it ended."""
        bodies = [message for message in self.sent if message["type"] == "http.response.body"]
        return "".join(each["body"].decode() + "|" * (not each["more_body"]) for each in bodies)


class Sending:
    """A stream on its way; `put` is what the worker would deliver."""

    def __init__(self, pace: Pace, encoder: Any = None) -> None:
        asked = read(Fields({"prompt": "?"}), FACTS)
        self.socket, self.ticket, self.outbox = Socket(), Queue(8).reserve(), Outbox()
        self.ticket.begin(lambda *_: iter(()), self.outbox.put)
        self.presence = Presence(self.socket.receive)
        self.presence.when_gone(self.ticket.cancel)
        encoder = encoder or PlainEncoder(Envelope("k1", 0, "m"), asked)
        self.scope: dict[str, Any] = {}
        self.stream = EventStream(encoder, self.ticket, self.outbox, self.presence, pace)
        self.task = asyncio.ensure_future(
            self.stream(self.scope, self.socket.receive, self.socket.send)
        )

    def put(self, *items: Event | End) -> None:
        for item in items:
            self.outbox.put(item)

    async def text(self) -> str:
        """All that was sent, once the stream has ended."""
        await asyncio.wait_for(self.task, 10)
        return self.socket.text


def streamed(
    story: Callable[[Sending], Awaitable[None]], pace: Pace | None = None, encoder: Any = None
) -> str:
    """What is sent when a stream goes as the story tells."""

    async def main() -> str:
        sending = Sending(pace or Pace(), encoder)
        await story(sending)
        return await sending.text()

    return without_waiting(main())


def of(*items: Event | End) -> Callable[[Sending], Awaitable[None]]:
    async def story(sending: Sending) -> None:
        sending.put(*items)

    return story


OPENING = 'data: {"open":"k1"}\n\n'
DONE = 'data: {"done":"stop","warnings":[]}\n\ndata: [DONE]\n\n'


def test_the_order_of_a_stream():
    said = streamed(of(BEGUN, draft("a"), draft("b"), Text("ab"), Text("c"), done(), End()))
    assert said == (
        OPENING + 'data: {"begun":0}\n\ndata: {"draft":"a"}\n\ndata: {"draft":"b"}\n\n'
        'data: {"text":"ab"}\n\ndata: {"text":"c"}\n\n' + DONE + "|"
    )


def test_headers_that_proxies_understand():
    async def story(sending):
        sending.put(done(), End())
        await sending.task
        start = sending.socket.sent[0]
        assert (start["type"], start["status"]) == ("http.response.start", 200)
        assert dict(start["headers"]) == {
            b"content-type": b"text/event-stream; charset=utf-8",
            b"cache-control": b"no-cache",
            b"x-accel-buffering": b"no",
        }
        assert sending.scope["state"]["usage"] == USAGE

    streamed(story)


def test_the_opening_is_sent_before_anything_is_computed():
    async def story(sending):
        await asyncio.sleep(0.01)
        assert sending.socket.text == OPENING
        sending.put(done(), End())

    streamed(story)


def test_silence_is_filled_with_pings():
    async def story(sending):
        await asyncio.sleep(0.25)
        sending.put(BEGUN)
        await asyncio.sleep(0.25)
        sending.put(done(), End())

    before, after = streamed(story, Pace(keepalive=0.05)).split('data: {"begun":0}\n\n')
    assert 4 <= before.count(PING) <= 5
    assert 4 <= after.count(PING) <= 5


def test_a_client_that_waits_5_s_survives_a_canvas_of_60_s():
    times = []

    async def story(sending):
        sending.put(BEGUN, Text("a"))
        await asyncio.sleep(60)
        sending.put(Text("b"), done(), End())
        await sending.task
        times.extend(sending.socket.times)

    assert streamed(story).endswith(DONE + "|")
    assert max(after - before for before, after in pairwise(times)) <= 2  # as clients are promised
    assert times[-1] == pytest.approx(60)


def test_events_that_say_nothing_do_not_hold_the_pings_back():
    class Holding(PlainEncoder):
        def encode(self, event: Event) -> Iterator[str]:
            return iter(()) if isinstance(event, Text) else super().encode(event)

    async def story(sending):
        for _ in range(20):
            sending.put(Text("held"))
            await asyncio.sleep(0.02)
        sending.put(done(), End())

    encoder = Holding(Envelope("k1", 0, "m"), read(Fields({"prompt": "?"}), FACTS))
    assert streamed(story, Pace(keepalive=0.1), encoder).count(PING) >= 2


def test_the_end_is_sent_when_the_place_is_free_again():
    async def story(sending):
        sending.put(Text("a"), done())
        await asyncio.sleep(0.02)
        assert "[DONE]" not in sending.socket.text
        sending.put(End())

    assert streamed(story).endswith(DONE + "|")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FitError("it does not fit."), "context_length_exceeded"),
        (NumericsError("the weights are nan."), "the server's log says why"),
        (Refusal("stopping", "the server is stopping."), "the server is stopping."),
        (Cancellation(), "the server is stopping"),
        (None, "the server's log says why"),
    ],
)
def test_an_end_without_done_is_a_failure_without_done(error, told):
    said = streamed(of(Text("a"), End(error)))
    assert said.startswith(OPENING + 'data: {"text":"a"}\n\ndata: {"error":')
    assert told in said
    assert said.count("data: ") == 3
    assert said.endswith("}\n\n|")


def test_a_failure_is_the_end():
    said = streamed(of(Text("a"), Failed(Refusal("internal", "broken.")), End()))
    assert said.count('data: {"error":') == 1
    assert "[DONE]" not in said
    assert said.endswith("}\n\n|")


def test_a_crash_behind_the_end_of_an_answer_changes_nothing():
    said = streamed(of(Text("a"), done(), End(Refusal("internal", "broken."))))
    assert said.endswith(DONE + "|")


def test_an_encoder_that_breaks_fails_one_answer(caplog):
    class Broken(PlainEncoder):
        def encode(self, event: Event) -> Iterator[str]:
            if isinstance(event, Text):
                raise ValueError("secret")
            return super().encode(event)

    encoder = Broken(Envelope("k1", 0, "m"), read(Fields({"prompt": "?"}), FACTS))
    said = streamed(of(Text("a"), done(), End()), encoder=encoder)
    assert "internal_error" in said
    assert "secret" not in said
    assert said.endswith("|")
    assert caplog.records[0].exc_info


def test_a_client_that_goes_gives_its_ticket_up():
    async def story(sending):
        await asyncio.sleep(0.01)
        sending.socket.gone.set()
        await asyncio.sleep(0.01)
        assert sending.ticket.cancelled
        sending.put(Text("nobody reads this"))
        await asyncio.wait_for(sending.task, 5)

    assert "nobody" not in streamed(story)


def test_a_socket_that_breaks_gives_the_ticket_up():
    async def main() -> None:
        sending = Sending(Pace())
        sending.task.cancel()
        sending.task = asyncio.ensure_future(sending.stream({}, sending.socket.receive, failing))
        await asyncio.wait_for(sending.task, 5)
        assert sending.ticket.cancelled

    async def failing(message: dict[str, Any]) -> None:
        raise OSError("broken pipe")

    without_waiting(main())


def test_a_slow_reader_gets_the_newest_draft_and_all_of_the_text():
    async def story(sending):
        await asyncio.sleep(0.01)
        sending.socket.open.clear()
        sending.put(draft("sent before it is known that the socket is full"))
        await asyncio.sleep(0.01)
        for number in range(100):
            sending.put(draft(f"{number}"))
        await asyncio.sleep(0.01)
        sending.put(Text("first"), draft("old"), draft("new"))
        await asyncio.sleep(0.01)
        sending.socket.open.set()
        await asyncio.sleep(0.01)
        sending.put(Text("second"), done(), End())

    said = streamed(story)
    words = [line.removeprefix("data: ") for line in said.split("\n\n")][2:]
    assert words[:3] == ['{"text":"first"}', '{"draft":"new"}', '{"text":"second"}']
    assert "99" not in said


def test_a_reader_that_takes_nothing_is_cut_off(caplog):
    async def story(sending):
        await asyncio.sleep(0.01)
        sending.socket.open.clear()
        sending.put(Text("a"))
        await asyncio.wait_for(sending.task, 5)
        assert sending.ticket.cancelled

    assert streamed(story, Pace(patience=0.1)) == OPENING
    assert "took nothing for 0.1 s" in caplog.text


def test_a_reader_that_takes_something_is_not():
    """It takes nothing for 0.8 s in all, never for 0.6 s at once."""

    async def story(sending):
        for _ in range(8):
            sending.socket.open.clear()
            sending.put(Text("a"))
            await asyncio.sleep(0.1)
            sending.socket.open.set()
            await asyncio.sleep(0.01)
        sending.put(done(), End())

    assert streamed(story, Pace(patience=0.6)).endswith(DONE + "|")


def test_what_comes_behind_the_end_of_the_loop_is_lost():
    async def main() -> Outbox:
        return Outbox()

    asyncio.run(main()).deliver(Text("late"))
