"""Runs the command line in this process or in one of its own, on tiny-sudoku or a random model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner
from waiting import SECONDS

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.cli.app import app

ROOT = Path(__file__).parents[2]
SUDOKU = cast(Path, embedded_folder("tiny-sudoku"))
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty local cache, no network, no default model, nothing tuned, no verdict, no history."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MLX_DIFFGEMMA_MODEL", raising=False)


@pytest.fixture
def run() -> Run:
    """Runs a command in this process; standard input is no terminal."""

    def call(*arguments: object, input: str | bytes | None = None) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)

    return call


@pytest.fixture
def spawn() -> Run:
    """Runs a command in a process of its own, as a user would."""

    def call(
        *arguments: object, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "mlx_diffgemma", *map(str, arguments)]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1}
        if "input" in options:
            del streams["stdin"]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            **streams | {"timeout": SECONDS} | options,
        )

    return call


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and tiny-sudoku's tokenizer: canvas 8, 3 steps, no stop ids, no puzzle."""
    from checkpoints import Sizes, write_checkpoint

    sizes = Sizes("sf", vocab_size=128, sliding_window=16, std=0.03, sharpness=40.0)
    folder = write_checkpoint(
        tmp_path_factory.mktemp("random"), sizes, generation={"max_denoising_steps": 3}
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SUDOKU / name, folder)
    return folder


@pytest.fixture(scope="session")
def seeing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `random_folder`, with a tower: an image has at most four soft tokens."""
    from small import write_seeing

    return write_seeing(tmp_path_factory.mktemp("seeing"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image of 60 x 120 pixels, 2 soft tokens, with a blank in its name."""
    from PIL import Image

    file = tmp_path / "my photo.png"
    Image.radial_gradient("L").resize((60, 120)).convert("RGB").save(file)
    return file


@pytest.fixture(scope="session")
def sudoku_8bit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded checkpoint as `convert --quantize 8bit` makes it: README's tiny-8bit."""
    out = tmp_path_factory.mktemp("converted") / "tiny-8bit"
    done = CliRunner().invoke(app, ["convert", "tiny-sudoku", str(out), "--quantize", "8bit"])
    assert done.exit_code == 0, done.stderr
    return out


@pytest.fixture
def sudoku_copy(tmp_path: Path) -> Path:
    """A copy of the embedded checkpoint, to be damaged."""
    return Path(shutil.copytree(SUDOKU, tmp_path / "copy"))
