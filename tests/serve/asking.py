"""What tests do on the page: ask, and wait for the end of the answer."""

from __future__ import annotations

from collections.abc import Callable

from browser import ENTER, Browser
from live import Running
from scripted import ScriptedEngine

from mlx_diffgemma.serve.asked import Chat

Open = Callable[..., Running]


def ask(window: Browser, question: str) -> None:
    window.type("#ask", question)
    window.press(ENTER)


def rest(window: Browser) -> None:
    """Wait until no answer is on its way."""
    window.wait(lambda: window.count("body.busy") == 0)


def chats(engine: ScriptedEngine) -> list[Chat]:
    return [asked for asked in engine.asked if isinstance(asked, Chat)]
