"""Checkpoints that travel inside the package, and the task each of them was trained for.

Nothing here imports mlx: the command line asks these questions before it needs a model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

EMBEDDED: Mapping[str, str] = {"tiny-sudoku": "tiny-sudoku"}
"""Name a user types -> folder beside this file."""

Layout = tuple[tuple[str | int, ...], ...]
"""Rows of a screen; a number is the canvas position whose token stands there, a text is drawn."""


class Task(Protocol):
    """What a checkpoint trained for one kind of problem knows about its prompts and answers."""

    def prepare(self, text: str) -> str:
        """What a user typed, as the text the checkpoint was trained on; else PromptError."""
        ...

    def template(self, text: str) -> tuple[str, str]:
        """A problem as a template that holds what is given, and the prompt that asks for it."""
        ...

    def problem(self, prompt: str, answer: str) -> str | None:
        """Why `answer` does not solve `prompt`, in one line; None when it does."""
        ...

    @property
    def layout(self) -> Layout:
        """How a canvas is drawn; its tokens one behind the other where it does not fit."""
        ...


def embedded_folder(name: str) -> Path | None:
    """Folder of the embedded checkpoint `name`; None for every other name."""
    if name not in EMBEDDED:
        return None
    from importlib.resources import files  # imported late: it alone costs about 15 ms of start-up

    return Path(str(files(__name__) / EMBEDDED[name]))


def embedded_task(folder: Path) -> Task | None:
    """Task of an embedded checkpoint's own folder; None for every other folder, copies included."""
    own = embedded_folder("tiny-sudoku")
    if own is None or own.resolve() != folder.resolve():
        return None
    from .sudoku import SudokuTask

    return SudokuTask()
