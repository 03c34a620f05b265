"""Lines of `serve`: its address, a request to try, a line for every request that is over."""

import logging
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...errors import shown
from ...serve.engine.engine import Facts
from ...serve.http.watch import Record
from ..errors import FileError
from ..terminal.output import write_json, write_lines
from ..terminal.streams import detach, harmless, say, tell

LOG = logging.getLogger("mlx_diffgemma.serve")
CHAT = "/v1/chat/completions"
QUESTION = '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'
MOST_PATH = 200  # characters of a path in the log


@dataclass
class RequestLog:
    """A line of JSON on standard output for every request that is over, while somebody reads it."""

    wanted: bool = True

    def __call__(self, record: Record) -> None:
        if not self.wanted:
            return
        try:
            write_json(line_of(record))
        except (BrokenPipeError, FileError):
            self.wanted = False
            detach(sys.stdout)
            say("warning: nobody reads the log any more; the server goes on without it.")


def line_of(record: Record) -> dict[str, Any]:
    """The object of a request in the log."""
    usage = record.usage
    at = datetime.fromtimestamp(record.at, UTC)
    return {
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": record.key,
        "method": shown(record.method, MOST_PATH),
        "path": shown(record.path, MOST_PATH),
        "status": record.status,
        "seconds": round(record.seconds, 6),
        "prompt_tokens": usage and usage.prompt,
        "cached_tokens": usage and usage.cached,
        "completion_tokens": usage and usage.completion,
    }


@dataclass(frozen=True)
class Ready:
    """The lines once the model is there; key: as a shell writes it, None where there is none.

    log: lines of JSON have standard output for themselves.
    """

    facts: Facts
    url: str
    key: str | None
    log: RequestLog | None

    def __call__(self) -> None:
        """Say it."""
        lines = [
            f"{self.facts.name} answers at {self.url}; Ctrl-C ends it.",
            curl_line(self.url, self.key),
        ]
        if self.log is None:
            write_lines(lines)
        else:
            for line in lines:
                tell(line)


def curl_line(url: str, key: str | None) -> str:
    """A command that asks something; key: as a shell writes it."""
    sent = f' -H "Authorization: Bearer {key}"' if key else ""
    return (
        f"curl {shlex.quote(url + CHAT)}{sent} -H 'Content-Type: application/json' -d '{QUESTION}'"
    )


class Said(logging.Handler):
    """Errors of the server on standard error, a line each; bugs with their traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one."""
        say(f"{record.levelname.lower()}: {record.getMessage()}")
        if record.exc_info and record.exc_info[1]:
            for block in traceback.format_exception(record.exc_info[1]):
                for line in block.splitlines():
                    tell(harmless(line))


@contextmanager
def logged() -> Iterator[None]:
    """Print the server's log on standard error."""
    handler = Said(logging.WARNING)
    LOG.addHandler(handler)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.propagate = True
