"""What the README shows is what happens: its transcript, its Python and its options."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mlx_diffgemma.cli.chat.slash import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TRANSCRIPT = README.split("```\n$ mlx-diffgemma ")[1].split("\n```")[0]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "mlx_diffgemma", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_transcript_gives_its_grid() -> None:
    command, *shown = TRANSCRIPT.replace("\\\n", " ").splitlines()
    grid = [line for line in shown if re.fullmatch(r"[1-9]{9}", line)]
    assert len(grid) == 9
    assert run(*command.split()).splitlines() == grid


def test_the_python_runs() -> None:
    """Up to the network alone, which needs a checkpoint of the reader's."""
    code = README.split("```python\n")[1].split("\nmodel = ")[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert "534678912" in printed.getvalue()


@pytest.mark.parametrize("command", ["generate", "convert"])
def test_every_option_it_names_exists(command: str) -> None:
    table = README.split(f"| option of `{command}` |")[1].split("\n\n")[0]
    named = set(re.findall(r"--[a-z][a-z-]+", table))
    assert len(named) > 10
    assert named <= set(re.findall(r"--[a-z][a-z-]+", run(command, "--help")))


def test_the_picture_is_of_the_transcripts_puzzle() -> None:
    """Nothing in it that a README's host would strip, and the solution in its last step."""
    content = (Path(__file__).parents[1] / "docs" / "denoising.svg").read_text(encoding="utf-8")
    assert len(content) < 100_000
    assert "<script" not in content
    space = "{http://www.w3.org/2000/svg}"
    rows: dict[int, str] = {}
    (steps,) = re.findall(r"step \d+/48", content.replace("\u00a0", " "))[-1:]
    last = int(steps.split()[1].split("/")[0])
    for group in ElementTree.fromstring(content).iter(space + "g"):
        if group.attrib.get("class", f"t0-{last}").endswith(f"-{last}"):
            for text in group.findall(space + "text"):
                y = int(text.attrib["y"])
                rows[y] = rows.get(y, "") + "".join(re.findall(r"[1-9]", text.text or ""))
    grid = [line for line in TRANSCRIPT.splitlines() if re.fullmatch(r"[1-9]{9}", line)]
    assert [digits for _, digits in sorted(rows.items()) if len(digits) == 9] == grid


def test_chats_commands_are_all_there() -> None:
    table = README.split("| command | |")[1].split("\n\n")[0]
    assert re.findall(r"`/([a-z]+)", table) == list(COMMANDS)


def test_every_file_it_names_is_there() -> None:
    root = Path(__file__).parents[1]
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / link).exists(), link
    tree = README.split("## How it is built")[1].split("\n\n")[1]
    for name in re.findall(r"(\w+\.py)\b", tree):
        assert list(root.rglob(name)), name
