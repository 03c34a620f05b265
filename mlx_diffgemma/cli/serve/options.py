"""The options of `serve`, with their help; None is always "not given"."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ArgumentError
from ..parameters import flag, option
from ..settings_options import Mode

Ping = Literal["comment", "chunk"]

HOST, PORT, QUEUE, KEEP, MODE = "127.0.0.1", 8080, 8, 4, "diffusion"
HIGHEST_PORT, MOST_QUEUE, MOST_KEPT = 65535, 1000, 1000
LONGEST_IDLE = 60 * 24 * 365  # minutes
NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,251}[A-Za-z0-9_]|[A-Za-z0-9_]")
ORIGIN = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class AddressOptions:
    """The address that clients find the server at."""

    host: str | None = option(
        "--host",
        f"The name or address to listen at. Another one than this machine's own needs a key. "
        f"Default: {HOST}.",
        "HOST",
    )
    port: int | None = option(
        "--port", f"The port to listen at; 0: any that is free. Default: {PORT}.", "N"
    )

    def check(self) -> None:
        """ArgumentError for a port that there is not, and for no host."""
        if self.host is not None and not self.host.strip():
            raise ArgumentError(f"--host is empty, expected a name or address such as {HOST}.")
        if self.port is not None and not 0 <= self.port <= HIGHEST_PORT:
            raise ArgumentError(
                f"--port is {self.port:,}, expected a whole number from 0 to {HIGHEST_PORT:,}."
            )


@dataclass(frozen=True)
class AccessOptions:
    """The right to ask."""

    api_key_file: Path | None = option(
        "--api-key-file",
        "A file with the key that clients have to send. Default: the key in "
        "$MLX_DIFFGEMMA_API_KEY, else none is asked for.",
        "FILE",
    )
    api_key: str | None = option(
        "--api-key", "The key itself, for tests: other users of the machine see it in `ps`.", "KEY"
    )
    allow_host: list[str] | None = option(
        "--allow-host",
        "Let clients call the server by another name, such as host.docker.internal from a "
        "container; may be repeated. Default: this machine's own names alone.",
        "NAME",
    )
    cors: list[str] | None = option(
        "--cors",
        "Let the pages of an origin ask, such as http://localhost:3000; may be repeated. Default: "
        "the server's own page alone.",
        "ORIGIN",
    )

    def check(self) -> None:
        """ArgumentError for two keys, and for what is no name or no origin."""
        if self.api_key is not None and self.api_key_file is not None:
            raise ArgumentError("--api-key and --api-key-file are both given; leave one out.")
        for name in self.allow_host or ():
            if not NAME.fullmatch(name):
                raise ArgumentError(
                    f"--allow-host is {name!r}, expected a name such as host.docker.internal, "
                    "without a port; name each one that clients use."
                )
        for origin in self.cors or ():
            if not ORIGIN.fullmatch(origin):
                raise ArgumentError(
                    f"--cors is {origin!r}, expected an origin such as http://localhost:3000; "
                    "name each one that may ask."
                )


@dataclass(frozen=True)
class WorkOptions:
    """The way that questions are answered."""

    mode: Mode | None = option(
        "--mode",
        "The mode of answers whose request names none: diffusion, ar or auto. Default: diffusion.",
    )
    max_queue: int | None = option(
        "--max-queue",
        f"Requests that may wait while one is answered; others are sent away. Default: {QUEUE}.",
        "N",
    )
    keep: int | None = option(
        "--keep",
        "Conversations whose beginnings stay in memory, so that they need not be encoded again. "
        f"Default: {KEEP}.",
        "N",
    )
    idle_unload: float | None = option(
        "--idle-unload",
        "Free the memory of the weights after so many minutes without a request; the next one "
        "loads them again. Default: they stay.",
        "MINUTES",
    )
    ping: Ping | None = option(
        "--ping",
        "What keeps a silent stream alive: comment, or chunk, an empty one, for a proxy that drops "
        "comments. Default: comment.",
    )
    json_log: bool = flag(
        "--json-log",
        "Print a line of JSON for every request when it is over: time, id, path, status, seconds "
        "and tokens, nothing of what was said. Default: nothing.",
    )

    def check(self) -> None:
        """ArgumentError for a number out of its range."""
        for name, value, most in (
            ("--max-queue", self.max_queue, MOST_QUEUE),
            ("--keep", self.keep, MOST_KEPT),
        ):
            if value is not None and not 0 <= value <= most:
                raise ArgumentError(
                    f"{name} is {value:,}, expected a whole number from 0 to {most:,}."
                )
        if self.idle_unload is not None and not 0 < self.idle_unload <= LONGEST_IDLE:
            raise ArgumentError(
                f"--idle-unload is {self.idle_unload:g}, expected minutes above 0, "
                f"{LONGEST_IDLE:,} at most."
            )
