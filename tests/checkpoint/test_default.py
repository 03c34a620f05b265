"""The model that is meant where none is named: environment, config file, the published one."""

from pathlib import Path

import pytest
from facts import raises

from mlx_diffgemma.checkpoint.default import DEFAULT_MODEL, default_model
from mlx_diffgemma.errors import ConfigFileError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config file's place; no variable names a model."""
    monkeypatch.delenv("MLX_DIFFGEMMA_MODEL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mlx-diffgemma").mkdir()
    return tmp_path / "mlx-diffgemma" / "config.toml"


@pytest.mark.usefixtures("config")
def test_the_default_is_the_published_4_bit_model() -> None:
    assert default_model() == "mlx-community/diffusiongemma-26B-A4B-it-4bit"


def test_the_config_file_names_another(config: Path) -> None:
    config.write_text("seed = 1\n")
    assert default_model() == DEFAULT_MODEL
    config.write_text('model = "tiny-chat"\n')
    assert default_model() == "tiny-chat"


def test_the_environment_comes_before_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('model = "tiny-chat"\n')
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    assert default_model() == "tiny-sudoku"
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "")
    assert default_model() == "tiny-chat"


def test_a_broken_file_is_an_error_only_where_it_is_asked(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("model = tiny-chat")
    with raises(ConfigFileError, config, "line 1 ... model"):
        default_model()
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    assert default_model() == "tiny-sudoku"
