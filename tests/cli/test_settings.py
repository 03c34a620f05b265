"""`info --settings`: the value of each setting, and where it is from."""

import json
from pathlib import Path
from typing import Any

import pytest
from puzzle import assert_one_line

from mlx_diffgemma.generation.settings import FIELDS
from mlx_diffgemma.machine.user_config import KEYS, config_file


@pytest.fixture
def config() -> Path:
    """A config file with a mode and a seed."""
    file = config_file()
    assert file is not None
    file.parent.mkdir()
    file.write_text('model = "tiny-chat"\nmode = "ar"\nseed = 7\n')
    return file


def settings(run: Any, *arguments: object) -> dict[str, Any]:
    done = run("info", "--settings", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_every_setting_has_a_value_and_an_origin(run: Any) -> None:
    found = settings(run, "tiny-chat")["settings"]
    assert set(found) == {*KEYS, *FIELDS}
    assert found["max_denoising_steps"] == {"value": 48, "origin": "checkpoint"}
    assert found["top_k"] == {"value": 64, "origin": "default"}
    assert found["seed"] == {"value": None, "origin": "default"}
    assert found["think"] == {"value": False, "origin": "default"}


def test_values_of_the_file_are_named_so(run: Any, config: Path) -> None:
    found = settings(run)
    assert found["config"] == {"path": str(config), "exists": True}
    assert found["settings"]["mode"] == {"value": "ar", "origin": "config"}
    assert found["settings"]["seed"] == {"value": 7, "origin": "config"}


def test_a_value_that_would_rest_is_not_shown_as_used(run: Any, config: Path) -> None:
    found = settings(run, "tiny-sudoku")["settings"]
    assert found["mode"] == {"value": "diffusion", "origin": "default"}
    assert found["seed"]["origin"] == "config"


def test_the_model_has_four_origins(
    run: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model(*arguments: str) -> tuple[str, str]:
        found = settings(run, *arguments)["settings"]["model"]
        return found["value"], found["origin"]

    assert model() == ("tiny-chat", "config")
    monkeypatch.setenv("MLX_DIFFGEMMA_MODEL", "tiny-sudoku")
    assert model() == ("tiny-sudoku", "environment")
    assert model("tiny-chat") == ("tiny-chat", "option")
    monkeypatch.delenv("MLX_DIFFGEMMA_MODEL")
    config.unlink()
    assert model() == ("mlx-community/diffusiongemma-26B-A4B-it-4bit", "default")


def test_of_a_model_that_is_not_here_nothing_is_made_up(run: Any) -> None:
    found = settings(run, "no/where")
    assert found["config"]["exists"] is False
    assert found["settings"]["entropy_bound"] == {"value": None, "origin": "checkpoint"}
    text = run("info", "--settings", "no/where").stdout
    assert "not on this machine" in next(line for line in text.splitlines() if "--steps" in line)


def test_the_lines_name_options_as_they_are_typed(run: Any, config: Path) -> None:
    lines = run("info", "--settings").stdout.splitlines()
    assert lines[-1] == f"config file: {config}"
    rows = {line.split()[0]: line.split()[1:] for line in lines[:-1]}
    assert len(lines) < 24
    assert rows["--mode"] == ["config", "ar"]
    assert rows["--max-tokens"] == ["default", "1024,", "or", "what", "fits"]
    assert rows["--stability"] == ["checkpoint", "1"]
    assert rows["--exact-self-conditioning"] == ["default", "off"]


def test_what_is_for_the_report_alone_is_refused(run: Any) -> None:
    for option in (("--context", 100), ("--dtype", "float32"), ("--no-tune",)):
        done = run("info", "tiny-chat", "--settings", *option)
        assert_one_line(done, 2, f"{option[0]} ... --settings ... leave it out")
    assert_one_line(run("info", "none", "--settings"), 1, "none: no such folder")
