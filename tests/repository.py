"""A repository of the Hub played by a folder: what huggingface_hub's HfApi would say of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from mlx_diffgemma.checkpoint.shards import SIDE_FILE, named_shards, read_headers

REPO = "owner/model"
COMMIT = "0123abcd"


class Repository:
    """A stand-in for HfApi; `asked` lists the calls with their revisions.

    fails: an error for a call ("info", "headers") or a file's name.
    """

    def __init__(self, folder: Path, fails: dict[str, Exception] | None = None) -> None:
        self.folder, self.fails = folder, fails or {}
        self.asked: list[tuple[str, str | None]] = []

    def model_info(self, repo_id: str, *, revision: str | None, files_metadata: bool) -> Any:
        assert files_metadata
        self._ask("info", revision)
        files = [
            SimpleNamespace(rfilename=file.name, size=file.stat().st_size)
            for file in sorted(self.folder.iterdir())
            if file.is_file()
        ]
        if (side := self.folder / SIDE_FILE).exists():
            files.append(SimpleNamespace(rfilename=SIDE_FILE, size=side.stat().st_size))
        return SimpleNamespace(sha=COMMIT, siblings=files)

    def get_safetensors_metadata(self, repo_id: str, *, revision: str | None) -> Any:
        self._ask("headers", revision)
        shards, _ = named_shards(self.folder)
        return SimpleNamespace(files_metadata={file.name: self._header(file) for file in shards})

    def parse_safetensors_file_metadata(
        self, repo_id: str, name: str, *, revision: str | None
    ) -> Any:
        self._ask(name, revision)
        return self._header(self.folder / name)

    def _header(self, file: Path) -> Any:
        tensors, end = {}, 0
        for name, info in read_headers(self.folder).items():
            if info.file == file:
                begin, end = end, end + info.num_bytes
                tensors[name] = SimpleNamespace(
                    dtype=info.dtype, shape=list(info.shape), data_offsets=(begin, end)
                )
        return SimpleNamespace(tensors=tensors)

    def hf_hub_download(self, repo_id: str, name: str, *, revision: str | None) -> str:
        self._ask(name, revision)
        return str(self.folder / name)

    def _ask(self, what: str, revision: str | None) -> None:
        self.asked.append((what, revision))
        if what in self.fails:
            raise self.fails[what]


def serve(
    monkeypatch: pytest.MonkeyPatch, folder: Path, fails: dict[str, Exception] | None = None
) -> Repository:
    """Every repository of the Hub is the content of `folder` from here on."""
    repository = Repository(folder, fails)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: repository)
    return repository


def refused(name: str) -> Exception:
    """The Hub's error of this name, as huggingface_hub raises it."""
    from huggingface_hub import errors

    kind = getattr(errors, name)
    if name == "NotASafetensorsRepoError":
        return kind("'owner/model' is not a safetensors repo.")  # type: ignore[no-any-return]
    error: Exception = kind.__new__(kind)
    Exception.__init__(error, "404 Client Error. (Request ID: 1)\nNot Found for url: https://x")
    return error
