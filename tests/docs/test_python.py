"""docs/python.md has every public name, and its blocks run, as do the README's and the notebook."""

import contextlib
import io
import json
import re
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


def test_the_notebook_runs() -> None:
    notebook = json.loads((EXAMPLES / "sudoku.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert "51 holes" in executed(cells, "sudoku.ipynb")
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_template_has_holes_of_a_size() -> None:
    template = read_template((EXAMPLES / "mean.py").read_text())
    assert len(template.lengths) == 4


def test_the_conversation_can_be_gone_on_with() -> None:
    saved = load(EXAMPLES / "conversation.json")
    assert [message.role for message in saved.messages] == ["user", "assistant"]
