"""What an installation holds, and what importing it costs."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlx_diffgemma"
CHECKPOINT = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
HEAVY = {"PIL", "av", "huggingface_hub", "mlx", "mlx_lm", "torch", "transformers"}
EMBEDDED = ("tiny-chat", "tiny-sudoku")
MAX_CHECKPOINT_BYTES = 8_000_000  # of both

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Packages that stand at the top level; inside the package there are links to them.
OUTSIDE = PROJECT["tool"]["setuptools"]["package-dir"]


def package_files(suffix: str = "") -> list[Path]:
    """Every file of the package, those behind the links too."""
    walked = os.walk(PACKAGE, followlinks=True)
    files = [Path(folder) / name for folder, _, names in walked for name in names]
    return [file for file in files if file.suffix != ".pyc" and file.name.endswith(suffix)]


# --- packages and data


def test_every_package_on_disk_is_listed() -> None:
    folders = (init.parent for init in package_files("__init__.py"))
    on_disk = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_every_folder_with_python_is_a_package() -> None:
    folders = {path.parent for path in package_files(".py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(("name", "folder"), OUTSIDE.items())
def test_a_package_outside_is_linked_to(name: str, folder: str) -> None:
    assert (ROOT / name.replace(".", "/")).readlink() == Path("..") / folder


def checkpoint_files() -> set[Path]:
    return {file for name in EMBEDDED for file in (PACKAGE / "assets" / name).iterdir()}


@pytest.mark.parametrize("checkpoint", EMBEDDED)
@pytest.mark.parametrize("name", [*CHECKPOINT, "MODEL.md"])
def test_embedded_checkpoint_is_complete(checkpoint: str, name: str) -> None:
    assert (PACKAGE / "assets" / checkpoint / name).is_file()


def test_every_file_of_the_checkpoints_is_package_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["mlx_diffgemma.assets"]
    packed = {path for pattern in patterns for path in (PACKAGE / "assets").glob(pattern)}
    assert packed == checkpoint_files()


def test_both_checkpoints_together_are_small() -> None:
    assert sum(file.stat().st_size for file in checkpoint_files()) <= MAX_CHECKPOINT_BYTES


def test_types_are_marked() -> None:
    assert (PACKAGE / "py.typed").is_file()


# --- imports


def imported_by(code: str) -> set[str]:
    """Top-level modules of HEAVY that a fresh Python has imported after running `code`."""
    report = f"\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules.keys() & {HEAVY})))"
    ran = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_import_is_light() -> None:
    assert imported_by("import mlx_diffgemma") == set()


@pytest.mark.parametrize("command", [[], ["generate"], ["chat"], ["replay"]])
def test_help_is_light(command: list[str]) -> None:
    assert imported_by(running([*command, "--help"])) == set()


def test_the_first_screen_is_light() -> None:
    """Of the Hub's library it takes the name of a folder, which costs 10 ms."""
    assert imported_by(running([])) <= {"huggingface_hub"}


def running(command: list[str]) -> str:
    """The source of a process that runs the program."""
    return f"""
import runpy, sys
sys.argv = ["mlx-diffgemma", *{command!r}]
try:
    runpy.run_module("mlx_diffgemma", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""
