"""docs/python.md has every public name; its blocks, the README's, examples and notebooks run."""

import contextlib
import io
import json
import re
import runpy
import warnings
from pathlib import Path

import pytest
from pages import ROOT, blocks, text_of

import mlx_diffgemma as dg
from mlx_diffgemma.cli.chat.saved import load
from mlx_diffgemma.text.holes import read_template

PYTHON, EXAMPLES = ROOT / "docs" / "python.md", ROOT / "docs" / "examples"


def executed(parts: list[str], name: str) -> str:
    """What pieces of one program print, run one behind the other."""
    printed, values = io.StringIO(), {"__name__": name}
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        for part in parts:
            exec(compile(part, name, "exec"), values)
    return printed.getvalue()


@pytest.mark.parametrize(
    ("page", "answer"),
    [(ROOT / "README.md", "B-R-E-A-D."), (PYTHON, "The opposite of early is late.")],
    ids=["README.md", "python.md"],
)
def test_the_python_of_a_page_runs(page: Path, answer: str) -> None:
    assert answer in executed(blocks(page, "python"), page.name)


def test_every_public_name_has_its_place() -> None:
    text = text_of(PYTHON)
    for name in dir(dg):
        assert re.search(rf"\bdg\.{name}\b|`{name}`", text), name


def test_no_other_name_is_used() -> None:
    assert set(re.findall(r"\bdg\.(\w+)", text_of(PYTHON))) <= set(dir(dg))


def cells_of(name: str) -> list[str]:
    """The code of a notebook, which is kept without what it printed."""
    cells = json.loads((EXAMPLES / name).read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs() -> None:
    """Its cells alone; tests/notebook runs all notebooks as Jupyter does."""
    assert "51 holes" in executed(cells_of("sudoku.ipynb"), "sudoku.ipynb")


@pytest.mark.slow
def test_the_notebook_of_a_canvas_runs_where_nothing_is_shown() -> None:
    assert "17 + 25 = 42. (2,) stop" in executed(cells_of("canvas.ipynb"), "canvas.ipynb")


SAID = {
    "ask": "17 + 25 = 42.",
    "stream": "step 1: 64 of 64 accepted\nThe opposite of early is late.",
    "fill": "('late',)",
    "picture": "solved",
    "noise": "Frame(canvas 0, step 7, 31 tokens, committed, stop)",
}
"""Scripts in docs/examples, and what they print."""


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert SAID[name] in capsys.readouterr().out


def test_every_example_is_run_and_short() -> None:
    scripts = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert scripts.keys() == {*SAID, "mean"}  # a template
    assert all(len(script.splitlines()) <= 30 for script in scripts.values())


def test_the_template_has_holes_of_a_size() -> None:
    template = read_template((EXAMPLES / "mean.py").read_text())
    assert len(template.lengths) == 4


def test_the_conversation_can_be_gone_on_with() -> None:
    saved = load(EXAMPLES / "conversation.json")
    assert [message.role for message in saved.messages] == ["user", "assistant"]
