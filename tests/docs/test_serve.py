"""The requests that docs/serve.md shows, sent to a server with tiny-chat."""

import contextlib
import io
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from live import running
from pages import ROOT, blocks, commands
from tiny_engines import tiny_engine
from waiting import SECONDS

from mlx_diffgemma.serve.dialects.routes import DIALECTS

PAGE = ROOT / "docs" / "serve.md"
THERE = "http://127.0.0.1:8080"
PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    *("/v1/messages", "/v1/messages/count_tokens"),
)
SDKS = ("OpenAI", "Anthropic")
LINES = [command.line for command in commands(PAGE) if command.line.startswith("curl")]
SENT = [line for line in LINES if any(f"{THERE}{path} " in line for path in PATHS)]
CODE = [block for block in blocks(PAGE, "python") if any(name in block for name in SDKS)]
SAID = {
    "count_tokens": '{"input_tokens":38}',
    "What is 17 + 25?": "17 + 25 = 42.",
    "A lemon is ": "yellow",
    "capital of Italy": "The capital of Italy is Rome.",
    "name Max": "name='Max' colour='yellow' pet='bird'",
    "capital of Spain": "The capital of Spain is Madrid. ['Madrid']",
}
"""A part of a request, and what its answer has."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_engine(), DIALECTS) as server:
        yield server.url


def answer(request: str) -> str:
    return next((said for part, said in SAID.items() if part in request), "")


@pytest.mark.parametrize("line", SENT)
def test_a_line_of_curl(url: str, line: str) -> None:
    shell = ["bash", "-c", line.replace(THERE, url).replace("curl", "curl --fail", 1)]
    ran = subprocess.run(shell, capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stderr
    assert answer(line) in ran.stdout


@pytest.mark.parametrize("block", CODE)
def test_a_program(url: str, block: str) -> None:
    printed, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.replace(THERE, url), "serve.md", "exec"), names)
    names["client"].close()
    assert answer(block) in printed.getvalue()


def test_something_is_sent() -> None:
    assert len(SENT) >= 2
    assert len(CODE) >= 2
