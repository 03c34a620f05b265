"""Runs the program as a reader of the pages would: small checkpoints, in a folder of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT
from typer.testing import CliRunner

from mlx_diffgemma.cli.app import app


@pytest.fixture(autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty local cache, no network, no default model, nothing tuned and no colours."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("MLX_DIFFGEMMA_MODEL", raising=False)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: what a reader has in a clone, and room for what commands write."""
    for name in ("docs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Callable[..., str]:
    """Runs a command in this process, which must end well; what it printed on standard output."""

    def call(*arguments: str, input: str | None = None) -> str:
        result: Any = CliRunner().invoke(app, list(arguments), input=input)
        assert result.exit_code == 0, (arguments, result.output)
        return str(result.stdout)

    return call
