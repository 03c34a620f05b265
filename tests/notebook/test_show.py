"""`dg.show`: a cell's output is updated while an answer settles; elsewhere nothing is shown."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small import spell, talker, write_tokenizer
from waiting import SECONDS

import mlx_diffgemma as dg
from mlx_diffgemma.notebook import show as showing

ROOT = Path(__file__).parents[2]
Bundle = dict[str, str]


class Handle:
    """What IPython's display gives back, and all that a cell was shown."""

    def __init__(self, shown: list[Bundle]) -> None:
        self.shown = shown

    def update(self, bundle: Bundle, raw: bool) -> None:
        assert raw
        self.shown.append(bundle)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[Bundle]:
    """All that a cell is shown, one after the other; IPython is played by two modules."""
    shown = list[Bundle]()

    def display(bundle: Bundle, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        assert not shown  # once a cell
        shown.append(bundle)
        return Handle(shown)

    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    monkeypatch.setattr(showing, "EVERY_SECONDS", 0.0)
    return shown


@pytest.fixture
def session(tmp_path: Path) -> dg.Session:
    """A session that says three canvases of six tokens, a thought in front."""
    tokenizer = write_tokenizer(tmp_path)
    said = ("<|channel>", "thought", "\n", *"Hm", "<channel|>", *"One, two.", "<end>")
    return talker(tokenizer, spell(tokenizer, *said))


def test_a_cell_shows_each_step_and_then_the_answer(
    cell: list[Bundle], session: dg.Session
) -> None:
    turn = session.turn("Count.", seed=1, think=True)
    reply = dg.show(turn)
    assert (reply.text, reply) == ("One, two.", turn.reply())
    assert len(cell) == sum(reply.steps) + 1
    assert "nats" in cell[0]["text/html"]
    assert cell[0]["text/plain"].startswith("Frame(canvas 0, step 0, ")
    assert cell[-1]["text/plain"] == "One, two."
    assert ">One, two.</span>" in cell[-1]["text/html"]
    assert ">Hm\n\n</span>" in cell[-1]["text/html"]


def test_what_is_finished_stays_in_view_while_the_next_canvas_settles(
    cell: list[Bundle], session: dg.Session
) -> None:
    reply = dg.show(session.turn("Count.", seed=1))
    later = cell[sum(reply.steps[:2])]["text/html"]  # of the third canvas
    assert '<span class="">One, t</span>' in later


def test_updates_leave_the_browser_time(
    cell: list[Bundle], session: dg.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "EVERY_SECONDS", 60.0)
    dg.show(session.turn("Count.", seed=1))
    assert len(cell) == 2  # the first step and the answer


def test_an_interrupt_leaves_what_was_finished_in_view(
    cell: list[Bundle], session: dg.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = session.turn("Count.", seed=1)
    take = showing.View.take

    def interrupted(self: showing.View, frame: dg.Frame) -> None:
        take(self, frame)
        if frame.committed and frame.canvas == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(showing.View, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dg.show(turn)
    assert turn.reply().finish_reason == "interrupted"
    assert cell[-1]["text/plain"] == turn.reply().text == "One, t"


@pytest.mark.parametrize("ipython", [None, SimpleNamespace(get_ipython=lambda: SimpleNamespace())])
def test_elsewhere_nothing_is_shown(
    ipython: Any,
    session: dg.Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a script, and in IPython's own prompt, which draws no HTML."""
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert dg.show(session.turn("Count.", seed=1)).text == "One, two."
    assert capsys.readouterr() == ("", "")


def test_a_turn_that_was_run_before_says_so(session: dg.Session) -> None:
    turn = session.turn("Count.", seed=1)
    dg.show(turn)
    with pytest.raises(dg.TurnError):
        dg.show(turn)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["canvas", "sudoku"])
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_the_notebooks_run_as_jupyter_runs_them(
    name: str, open_notebook: Callable[..., Any]
) -> None:
    """Headless, in a kernel; a cell that raises fails the test."""
    done = open_notebook(ROOT / "docs" / "examples" / f"{name}.ipynb")
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    assert all({"text/html", "text/plain"} <= data.keys() for data in shown)
    assert len(shown) == (3 if name == "canvas" else 0)


@pytest.fixture
def open_notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Executes a notebook with nbclient, in the folder of this clone."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def execute(path: Path) -> Any:
        notebook = nbformat.read(path, as_version=4)
        resources = {"metadata": {"path": str(ROOT)}}
        return NotebookClient(notebook, timeout=SECONDS, resources=resources).execute()

    return execute
