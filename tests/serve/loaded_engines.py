"""Engines of real checkpoints, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.conversation.front import open_front
from mlx_diffgemma.conversation.loading import name_of
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.serve.asked import Asked, Chat
from mlx_diffgemma.serve.engine.engine import Facts, Stopping, going_on
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.events import Begun, Done, Event

CHAT = cast(Path, embedded_folder("tiny-chat"))
SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))

E = TypeVar("E", bound=Event)


def engine_of(
    folder: Path,
    *,
    keep: int = 4,
    chunk: int | None = None,
    read: Callable[[Session], Session] = lambda session: session,
) -> LoadedEngine:
    """An engine of a folder; chunk: prompt positions encoded at a time; read: the session used."""
    front = open_front(folder, name_of(folder))
    length, canvas = front.context_length, front.config.canvas_length
    facts = Facts(front.name, length, canvas, 0, sees=front.config.vision is not None)
    choices = None if chunk is None else Choices(prefill_chunk=chunk)
    return LoadedEngine(front, facts, lambda: read(dg.load(folder, choices=choices)), keep)


def never() -> bool:
    """The flag of a client that waits."""
    return False


def cancelled_at(look: int) -> Callable[[], bool]:
    """The flag of a client that is gone when it is looked for the `look`-th time, from 0."""
    looks = iter(range(look + 1))
    return lambda: next(looks, look) == look


def user(text: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": text}


def assistant(text: str, **others: Any) -> dict[str, Any]:
    """An assistant's message."""
    return {"role": "assistant", "content": text, **others}


def chat(*messages: Any, **others: Any) -> Chat:
    """A question in messages, a text each of which is the user's; settings by their names."""
    given = {name: others.pop(name) for name in [*others] if name in vars(Settings())}
    given = {"seed": 1, **given}
    said = tuple(user(each) if isinstance(each, str) else each for each in messages)
    return Chat(messages=said, settings=Settings(**given), **others)


def events_of(
    engine: LoadedEngine,
    asked: Asked,
    cancelled: Callable[[], bool] = never,
    stopping: Stopping = going_on,
) -> list[Event]:
    """All events of an answer."""
    return list(engine.answer(engine.prepare(asked), cancelled, stopping))


def of_kind(events: Sequence[Event], kind: type[E]) -> list[E]:
    """The events of a kind."""
    return [event for event in events if isinstance(event, kind)]


def text_of(events: Sequence[Event]) -> str:
    """The text that events tell."""
    from mlx_diffgemma.serve.events import Answer

    answer = Answer()
    for event in events:
        answer.take(event)
    return answer.text


def done_of(events: Sequence[Event]) -> Done:
    """The end of an answer, which is its last event."""
    assert isinstance(events[-1], Done)
    return events[-1]


def cached_of(events: Sequence[Event]) -> int:
    """Tokens of the prompt that were not encoded again, as the first event says."""
    assert isinstance(events[0], Begun)
    return events[0].cached_tokens


def counting_encoder(monkeypatch: Any) -> Iterator[list[int]]:
    """A list that gets the number of positions of each piece of a prompt that is encoded."""
    encoded: list[int] = []
    encode = dg.Model._encode_piece

    def counted(self: Any, ids: Sequence[int], *others: Any) -> None:
        encoded.append(len(ids))
        encode(self, ids, *others)

    monkeypatch.setattr(dg.Model, "_encode_piece", counted)
    yield encoded
