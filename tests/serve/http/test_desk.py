"""Questions that take long to be prepared: others go by, and nobody's are given up."""

import threading
import time
from dataclasses import dataclass, field

from live import running
from plain_dialect import PLAIN, Client, words
from scripted import ScriptedEngine, said
from waiting import SECONDS, wait_for

from mlx_diffgemma.cli.serve.work import DESK
from mlx_diffgemma.constrain.compiling import check_cancelled
from mlx_diffgemma.serve.asked import Asked, Chat
from mlx_diffgemma.serve.engine.engine import Cancellation
from mlx_diffgemma.serve.refusal import Refusal


def prompt_of(asked: Asked) -> str:
    assert not isinstance(asked, Chat)
    return asked.prompt


@dataclass
class Slow(ScriptedEngine):
    """Prepares "form" until `over`, as one makes a form; ends: the errors that ended it."""

    over: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    ends: list[Exception] = field(default_factory=list)

    def prepare(self, asked: Asked) -> Asked:
        if prompt_of(asked) == "form":
            self.begun.set()
            try:
                self._make()
            except Exception as error:
                self.ends.append(error)
                raise
        return super().prepare(asked)

    def _make(self) -> None:
        end = time.monotonic() + SECONDS
        while not self.over.is_set():
            assert time.monotonic() < end
            check_cancelled()
            time.sleep(0.001)


def engine() -> Slow:
    return Slow(lambda asked: said(prompt_of(asked)))


def test_a_large_form_keeps_nobody_waiting() -> None:
    slow = engine()
    with running(slow, [PLAIN], desks=DESK) as server, Client(server.port, prompt="form") as form:
        assert slow.begun.wait(SECONDS)
        with Client(server.port, prompt="short") as short:
            assert short.head()[0] == 200
            assert {"text": "short"} in words(short.lines())
        slow.over.set()
        assert form.head()[0] == 200
        assert {"text": "form"} in words(form.lines())


def test_a_form_is_given_up_once_its_client_has_gone() -> None:
    """The one thread of this desk is free for the next."""
    slow = engine()
    with running(slow, [PLAIN]) as server:
        with Client(server.port, prompt="form"):
            assert slow.begun.wait(SECONDS)
        with Client(server.port, prompt="next") as following:
            assert following.head()[0] == 200
        assert [type(each) for each in slow.ends] == [Cancellation]
        wait_for(lambda: server.worker.figures().places == 0)


def test_a_form_is_given_up_where_the_server_stops() -> None:
    slow = engine()
    with running(slow, [PLAIN]) as server, Client(server.port, prompt="form") as form:
        assert slow.begun.wait(SECONDS)
        server.worker.stop()
        status, headers = form.head()
        assert (status, form.body()["error"]["code"]) == (503, "stopping")
        assert int(headers["retry-after"]) > 0
        assert [type(each) for each in slow.ends] == [Refusal]
