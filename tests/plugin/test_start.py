"""The command `llm` in a process of its own: it finds the plugin, and starts as fast as without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import SECONDS

ROOT = Path(__file__).parents[2]
HEAVY = {"PIL", "av", "huggingface_hub", "mlx", "numpy", "tokenizers", "transformers"}


def started(*command: str, **environment: str) -> str:
    """What a process prints, which must end well."""
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_importing_the_plugin_is_light() -> None:
    """llm imports every plugin at each start, for `llm --help` too."""
    code = f"""
import sys, llm
before = set(sys.modules)
import mlx_diffgemma.plugin.model
print(sorted((sys.modules.keys() - before) & {HEAVY}))
"""
    assert started("-c", code, LLM_LOAD_PLUGINS="") == "[]\n"


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A folder for PYTHONPATH that names the plugin to llm, as an installation does."""
    information = tmp_path / "path" / "mlx_diffgemma-0.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mlx-diffgemma\nVersion: 0.0\n"
    )
    points = "[llm]\ndiffgemma = mlx_diffgemma.plugin.model\n"
    (information / "entry_points.txt").write_text(points)
    return os.pathsep.join([str(tmp_path / "path"), str(ROOT)])


@pytest.mark.slow
def test_llm_finds_the_plugin_answers_and_goes_on(installed: str) -> None:
    found = started("-m", "llm", "plugins", PYTHONPATH=installed)
    assert '"name": "mlx-diffgemma"' in found
    ask = ("-m", "llm", "-m", "diffgemma", "What is 17 + 25?", "-o", "seed", "7")
    assert started(*ask, PYTHONPATH=installed) == "17 + 25 = 42.\n"
    more = ("-m", "llm", "-c", "What is the opposite of early?", "-o", "seed", "7")
    assert started(*more, PYTHONPATH=installed) == "The opposite of early is late.\n"
