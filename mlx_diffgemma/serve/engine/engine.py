"""The model as the server sees it: questions prepared in any thread, answered in one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ...conversation.reply import ShareInfo
from ...decide.decision import Decision
from ...decide.request import Request
from ..asked import Asked
from ..events import Event

Cancelled = Callable[[], bool]
"""True once nobody waits for an answer; asked at every denoising step and every prefill chunk."""

Stopping = Callable[[], bool]
"""True once the server is about to end; asked behind every canvas."""

STOPPED = "The server was stopped before the answer had come to its end."


def going_on() -> bool:
    """The answer of a server that is not about to end."""
    return False


def fresh_key() -> str:
    """24 hexadecimal digits, for an answer or a call; no other one has them."""
    return secrets.token_hex(12)


class Cancellation(Exception):  # noqa: N818 - no error: the client has gone
    """The end of an answer that nobody waits for."""


@dataclass(frozen=True)
class Facts:
    """A model as clients are told of it; it stays the same while its weights are away.

    created: seconds since 1970 of its folder; sees: images; mode: in which it answers where nobody
    asks for another; share: None where one Mac answers alone.
    """

    name: str
    context_length: int
    canvas_length: int
    created: int
    sees: bool
    mode: str = "diffusion"
    quantization: str | None = None
    share: ShareInfo | None = None


@dataclass(frozen=True)
class Counters:
    """Sums of what the engine has done since it began, and what it holds now.

    kept_bytes: of prefixes, without the weights; memory_bytes: all that MLX has in use.
    """

    steps: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    encoded_tokens: int = 0
    kept_conversations: int = 0
    kept_bytes: int = 0
    memory_bytes: int = 0
    loads: int = 0


class Engine(Protocol):
    """A model. `prepare` and `count` compute nothing with MLX and may be called in any thread; all
    else is called by the one thread that owns it.
    """

    @property
    def facts(self) -> Facts: ...

    @property
    def counters(self) -> Counters: ...

    def prepare(self, asked: Asked) -> Any:
        """The question checked, rendered and encoded; Refusal for what cannot be answered."""
        ...

    def count(self, asked: Asked) -> int:
        """The tokens of a question's prompt; Refusal as `prepare`."""
        ...

    def answer(
        self, prepared: Any, cancelled: Cancelled, stopping: Stopping = going_on
    ) -> Iterator[Event]:
        """The events of an answer; Cancellation where `cancelled` said so.

        Where `stopping` says so, the canvas in hand is finished, and the answer ends: Done with the
        finish "length" and the warning STOPPED. A Refusal is raised where nothing was said yet,
        else the last event is Failed.
        """
        ...

    def decide(self, request: Request, cancelled: Cancelled) -> Decision:
        """A decision; RequestError and NumericsError as `decide`, Cancellation as `answer`."""
        ...

    def load(self) -> None:
        """Load the weights where they are not there."""
        ...

    def unload(self) -> None:
        """Free the weights and all that was kept; the next question loads them."""
        ...
