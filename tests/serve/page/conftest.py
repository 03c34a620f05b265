"""A browser, and the page of a new server in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from asking import Open
from browser import Browser, chromium
from live import Running, running

from mlx_diffgemma.serve.dialects.routes import DIALECTS
from mlx_diffgemma.serve.engine.engine import Engine

WATCH = """
window.seen = [];
new MutationObserver(() => {
  const text = document.querySelector("main > :not([hidden]) .live:not(#welcome *) .text");
  if (text && text.textContent && text.innerHTML !== seen.at(-1)) seen.push(text.innerHTML);
}).observe(document.body, { subtree: true, childList: true });
"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def open_page(window: Browser) -> Iterator[Open]:
    """Opens the page of a new server, which has an address of its own, and so nothing kept."""
    servers: list[AbstractContextManager[Running]] = []

    def opened(engine: Engine, **options: Any) -> Running:
        servers.append(running(engine, DIALECTS, **options))
        server = servers[-1].__enter__()
        window.open(server.url)
        window.run(WATCH)
        return server

    window.size(1000)
    window.prefer(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    window.errors()
    window.asked()
    yield opened
    for server in servers:
        server.__exit__(None, None, None)
