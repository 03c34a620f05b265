"""The real llm with the plugin, a log of its own, and no network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import llm
import pytest
from click.testing import CliRunner, Result
from llm import cli, plugins
from small import write_random, write_seeing

from mlx_diffgemma.plugin import model as plugin
from mlx_diffgemma.plugin.model import DiffGemma

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, also where nothing is installed that names it to llm; nothing is loaded."""
    plugins.load_plugins()
    missing = not plugins.pm.is_registered(plugin)
    if missing:
        plugins.pm.register(plugin, "diffgemma")
    monkeypatch.setattr(plugin, "KEPT", plugin.Kept())
    yield
    if missing:
        plugins.pm.unregister(plugin)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llm's own folder, an empty cache, nothing tuned, and tiny-chat as the model."""
    (tmp_path / "llm").mkdir()
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-chat")


@pytest.fixture
def run() -> Run:
    """Runs `llm` in this process, with nothing on standard input."""

    def call(*arguments: str, input: str = "") -> Result:
        result: Result = CliRunner().invoke(cli.cli, list(arguments), input=input)
        return result

    return call


@pytest.fixture
def diffgemma() -> DiffGemma:
    """The model as llm finds it, nothing loaded."""
    found = llm.get_model("diffgemma")
    assert isinstance(found, DiffGemma)
    return found


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with canvases of 8 and no stop ids."""
    return write_random(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def seeing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `random_folder`, with a vision tower."""
    return write_seeing(tmp_path_factory.mktemp("seeing"))
