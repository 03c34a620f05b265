"""A server as a process of its own, its health and its memory."""

import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HEALTH_EVERY = 0.02  # seconds


@dataclass
class Server:
    """A process that serves."""

    process: subprocess.Popen[str]
    port: int


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    """A server of tiny-chat; killed at the end where it has not ended."""
    command = [sys.executable, "-m", "mlx_diffgemma", "serve", "--model", "tiny-chat"]
    command += ["--port", str(port), "--max-queue", "16"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    try:
        said = process.stdout.readline()
        if not (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)):
            raise SystemExit(f"the server did not begin: {said}{process.stdout.read()}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Server(process, int(found[1]))
    finally:
        process.kill()
        process.wait()


@dataclass
class Health:
    """Asks /health again and again, in a thread, until `over`; times in ms."""

    port: int
    times: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(HEALTH_EVERY):
            began = time.perf_counter()
            get(self.port, "/health")
            self.times.append((time.perf_counter() - began) * 1000)


@contextmanager
def watched(port: int) -> Iterator[Health]:
    health = Health(port)
    thread = threading.Thread(target=health.run)
    thread.start()
    try:
        yield health
    finally:
        health.over.set()
        thread.join()


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@dataclass(frozen=True)
class Memory:
    """Bytes of the process, of MLX's arrays in it, and of these what is kept of prompts."""

    rss: int
    mlx: int
    kept: int


def memory_of(server: Server) -> Memory:
    """The memory of a server, now."""
    command = ["ps", "-o", "rss=", "-p", str(server.process.pid)]
    told = subprocess.run(command, capture_output=True, text=True)
    metrics = get(server.port, "/metrics")
    held = (_metric(metrics, f"diffgemma_{name}_bytes") for name in ("memory", "kept"))
    return Memory(int(told.stdout) * 1024, *held)


def _metric(metrics: str, name: str) -> int:
    found = re.search(rf"^{name} (\S+)", metrics, re.MULTILINE)
    assert found, f"/metrics has no {name}"
    return int(float(found[1]))
