"""The Hugging Face Hub on this machine: one repository, the content of a folder, over HTTP.

    python tests/fake_hub.py FOLDER [BYTES_A_SECOND] [owner/model]

serves until it is stopped and prints its address, for $HF_ENDPOINT. Tests start it in a thread.
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 16
LARGE = ".safetensors", "tokenizer.json"  # ends of names that lie in large file storage


class FakeHub(ThreadingHTTPServer):
    """The server; `asked` lists what was downloaded: a file's name and its first byte.

    rate: bytes a second of a download, None for all at once; cut: bytes after which the connection
    of a download breaks, once; refuses: a status for every request.
    """

    daemon_threads = True

    def __init__(self, folder: Path, repo_id: str = "owner/model", rate: float | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.repo_id, self.rate = folder, repo_id, rate
        self.cut: int | None = None
        self.refuses: int | None = None
        self.asked: list[tuple[str, int]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self) -> Iterator[dict[str, Any]]:
        """The files as the Hub's API describes them."""
        for file in sorted(self.folder.iterdir()):
            yield described(file, file.stat().st_mtime_ns)


@cache
def described(file: Path, _: int) -> dict[str, Any]:
    """Name, size and hashes of a file, as long as it stays what it is."""
    content = file.read_bytes()
    git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    entry = {"name": file.name, "size": len(content), "blob": git}
    if file.name.endswith(LARGE):
        entry["sha256"] = hashlib.sha256(content).hexdigest()
    return entry


def _lfs(file: dict[str, Any], key: str) -> dict[str, Any]:
    if "sha256" not in file:
        return {}
    return {"lfs": {key: file["sha256"], "size": file["size"], "pointerSize": 134}}


class Handler(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks."""

    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        api = f"/api/models/{hub.repo_id}"
        if hub.refuses is not None:
            self._send(hub.refuses, b"{}")
        elif path.startswith(f"{api}/tree/"):
            self._send(200, json.dumps([self._leaf(file) for file in hub.files()]).encode())
        elif path == api or path.startswith(f"{api}/revision/"):
            self._send(200, json.dumps(self._repository()).encode())
        elif path.startswith(f"/{hub.repo_id}/resolve/"):
            self._file(path.rpartition("/")[2], body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _leaf(self, file: dict[str, Any]) -> dict[str, Any]:
        of_file = {"type": "file", "path": file["name"], "size": file["size"], "oid": file["blob"]}
        return of_file | _lfs(file, "oid")

    def _repository(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": f["name"], "size": f["size"], "blobId": f["blob"], **_lfs(f, "sha256")}
            for f in self.server.files()
        ]
        return {"id": self.server.repo_id, "sha": COMMIT, "siblings": siblings}

    def _file(self, name: str, body: bool) -> None:
        file = next((f for f in self.server.files() if f["name"] == name), None)
        if file is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content, begin, end = (self.server.folder / name).read_bytes(), 0, file["size"]
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1, end) if last else end
        if body:
            self.server.asked.append((name, begin))
        headers = {
            "ETag": f'"{file.get("sha256", file["blob"])}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if wanted:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file['size']}"
        self._send(206 if wanted else 200, content[begin:end], headers, body)

    def _send(
        self, code: int, content: bytes, headers: dict[str, str] | None = None, body: bool = True
    ) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._write(content)

    def _write(self, content: bytes) -> None:
        """The content at the hub's rate, or its beginning and then a broken connection."""
        hub, sent = self.server, 0
        for at in range(0, len(content), PIECE):
            piece = content[at : at + PIECE]
            if hub.cut is not None and sent + len(piece) > hub.cut:
                hub.cut, self.close_connection = None, True
                self.connection.close()
                return
            try:
                self.wfile.write(piece)
            except OSError:  # whoever asked has gone
                self.close_connection = True
                return
            sent += len(piece)
            if hub.rate:
                time.sleep(len(piece) / hub.rate)


@contextmanager
def served(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub in a thread of its own."""
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def use(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process ask the hub, as $HF_ENDPOINT does for a process that starts."""
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(f"{constants}HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(f"{constants}HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}ENDPOINT", hub.endpoint)
    url = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, "huggingface_hub.file_download."):
        monkeypatch.setattr(f"{module}HUGGINGFACE_CO_URL_TEMPLATE", url, raising=False)


if __name__ == "__main__":
    folder, rate, *name = sys.argv[1:] if len(sys.argv) > 2 else [sys.argv[1], "0"]
    server = FakeHub(Path(folder), *name, rate=float(rate) or None)
    print(server.endpoint, flush=True)
    server.serve_forever()
