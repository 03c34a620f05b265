"""A server of 127.0.0.1 around `decide`: as much HTTP as the tests of others need."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.reader import LoadedModel
from mlx_diffgemma.decide.request import read_request
from mlx_diffgemma.errors import RequestError

MODELS = {"models": [{"name": "fake-1", "description": "a fake", "release_date": "2026-11-29"}]}


class Handler(BaseHTTPRequestHandler):
    """Answers a request by `decide`, and a wrong one by what its error says."""

    model: LoadedModel
    layout: str

    def do_GET(self) -> None:
        self._send(200, MODELS)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            request = read_request(body)
            decision = decide(request, self.model, request.options(layout=self.layout))
            self._send(200, decision.to_json())
        except RequestError as error:
            self._send(error.status, error.body)

    def _send(self, status: int, value: Any) -> None:
        content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-typesafe-request-id", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def served(model: LoadedModel, layout: str) -> Iterator[str]:
    """The address of a server around a model."""
    handler = type("Bound", (Handler,), {"model": model, "layout": layout})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
