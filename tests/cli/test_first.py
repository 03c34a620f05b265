"""The first screen: what `mlx-diffgemma` alone says."""

from pathlib import Path
from typing import Any

import pytest
import typer.main

from mlx_diffgemma.cli.app import app
from mlx_diffgemma.machine.user_config import config_file

REPOSITORY = "mlx-community/diffusiongemma-26B-A4B-it-4bit"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the default model in a local cache, empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path / f"models--{REPOSITORY.replace('/', '--')}"


def words(run: Any) -> str:
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    return " ".join(done.stdout.split())


@pytest.mark.usefixtures("cached")
def test_it_is_short_and_names_commands_that_there_are(run: Any) -> None:
    lines = run().stdout.splitlines()
    assert len(lines) < 15
    assert max(map(len, lines)) <= 80
    commands = [line.split()[1] for line in lines if line.startswith("  mlx-diffgemma")]
    assert len(commands) >= 3
    assert set(commands) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert "tiny-chat" in run().stdout
    assert "mlx-diffgemma --help" in run().stdout


def test_it_says_whether_the_model_is_here(run: Any, cached: Path) -> None:
    assert f"{REPOSITORY}, the default, is not on this machine yet" in words(run)
    shard = cached / "snapshots" / "abc" / "model-00001-of-00004.safetensors"
    shard.parent.mkdir(parents=True)
    shard.write_text("")
    (cached / "blobs").mkdir()
    part = cached / "blobs" / "123.incomplete"
    part.write_text("")
    assert "is only in part on this machine" in words(run)
    part.unlink()
    assert f"{REPOSITORY}, the default, is on this machine." in words(run)


@pytest.mark.usefixtures("cached")
def test_the_default_is_ones_own(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    assert "tiny-sudoku, the default, comes with the program" in words(run)
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", str(tmp_path))
    assert f"{tmp_path}, the default, is on this machine" in words(run)


def test_a_broken_config_file_does_not_keep_it_away(run: Any) -> None:
    file = config_file()
    assert file is not None
    file.parent.mkdir()
    file.write_text("model = tiny-chat")
    assert f"The config file cannot be used: {file} line 1, column 9: model" in words(run)
