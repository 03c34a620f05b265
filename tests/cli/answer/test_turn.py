"""How an answer is printed: as Markdown only where nothing speaks against it."""

from types import SimpleNamespace
from typing import Any

import pytest

from mlx_diffgemma.cli.answer import turn as module
from mlx_diffgemma.cli.answer.turn import open_printer
from mlx_diffgemma.cli.terminal.view import Display


def is_markdown(plain: bool = False, streaming: bool = False, **of_turn: Any) -> bool:
    fields = {
        "settings": SimpleNamespace(stop=()),
        "raw": False,
        "task": None,
        "begun": (),
        "form": None,
    }
    turn: Any = SimpleNamespace(**fields | of_turn)
    return open_printer(turn, Display(False, True, True, streaming), plain=plain).markdown


def test_markdown_is_for_whole_texts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solution is a grid, what has a form or a raw prompt is as it is, and --plain is a wish."""
    monkeypatch.setattr(module, "shows_markdown", lambda: True)
    assert is_markdown()
    others: tuple[dict[str, Any], ...] = (
        {"plain": True},
        {"streaming": True},
        {"raw": True},
        {"task": object()},
        {"form": object()},
    )
    assert not any(is_markdown(**other) for other in others)
    monkeypatch.setattr(module, "shows_markdown", lambda: False)
    assert not is_markdown()
