"""A client that gives up and asks again: what was encoded for it is not encoded twice."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from live import running
from plain_dialect import PLAIN, Client, words
from waiting import SECONDS, wait_for

from mlx_diffgemma.checkpoint.hub import local_folder
from mlx_diffgemma.conversation.front import open_front
from mlx_diffgemma.conversation.loading import load
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.serve.engine.engine import Cancelled, Facts, Stopping, going_on
from mlx_diffgemma.serve.engine.loaded import LoadedEngine, Ready
from mlx_diffgemma.serve.events import Event

CHUNK = 64  # tokens of a prompt that are encoded at a time
TEXT = "The cat sat on the mat, and the dog sat beside it. " * 12


def session() -> Session:
    loaded = load("tiny-chat")
    loaded.model.choices = replace(loaded.model.choices, prefill_chunk=CHUNK)
    return loaded


@dataclass
class Pausing(LoadedEngine):
    """Waits where the flag is looked at for the `pause`th time, until the client has gone, or the
    server stops.
    """

    pause: int = 0
    paused: threading.Event = field(default_factory=threading.Event)

    def answer(
        self, prepared: Ready, cancelled: Cancelled, stopping: Stopping = going_on
    ) -> Iterator[Event]:
        looks = 0

        def look() -> bool:
            nonlocal looks
            looks += 1
            if looks == self.pause:
                self.paused.set()
                wait_for(lambda: cancelled() or stopping())
            return cancelled()

        return super().answer(prepared, look, stopping)


def engine(pause: int) -> Pausing:
    folder = local_folder("tiny-chat")
    assert folder is not None
    front = open_front(folder, "tiny-chat")
    facts = Facts("tiny-chat", front.context_length, front.config.canvas_length, 0, sees=False)
    return Pausing(front, facts, session, pause=pause)


def test_a_retry_goes_on_behind_what_was_encoded():
    pausing = engine(pause=5)
    with running(pausing, [PLAIN]) as server:
        with Client(server.port, prompt=TEXT, max_tokens=64):
            assert pausing.paused.wait(SECONDS)  # in the middle of the prompt
        wait_for(lambda: server.worker.figures().places == 0)
        before = pausing.counters.encoded_tokens
        assert 0 < before < pausing.counters.prompt_tokens
        assert before % CHUNK == 0
        pausing.pause = 0
        with Client(server.port, prompt=TEXT, max_tokens=64) as client:
            client.head()
            said = words(client.lines())
        counters = pausing.counters
    assert said[1] == {"begun": before}
    assert said[-1] == "[DONE]"
    assert counters.encoded_tokens == counters.prompt_tokens // 2  # once, for both


def test_a_stop_does_not_wait_for_a_long_prompt():
    pausing = engine(pause=5)
    with running(pausing, [PLAIN]) as server:
        with Client(server.port, prompt=TEXT, max_tokens=64) as client:
            assert pausing.paused.wait(SECONDS)
            server.worker.stop()
            client.head()
            said = words(client.lines())
        assert server.worker.join(SECONDS)
    assert said[-1]["error"]["code"] == "stopping"
    assert pausing.counters.encoded_tokens < pausing.counters.prompt_tokens
