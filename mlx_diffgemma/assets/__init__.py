"""Checkpoints that travel inside the package, and the tasks that checkpoints are trained for.

Nothing here imports mlx: the command line asks these questions before it needs a model.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

EMBEDDED = ("tiny-chat", "tiny-sudoku")
"""The names that users type, each of a folder beside this file."""

Layout = tuple[tuple[str | int, ...], ...]
"""Rows of a screen; a number is the canvas position whose token stands there, a text is drawn."""


class Task(Protocol):
    """Knowledge of the prompts and answers of one kind of problem, which a checkpoint may name."""

    def prepare(self, text: str) -> str:
        """A problem as the text that the checkpoint was trained on; PromptError for no problem."""

    @property
    def characters(self) -> str:
        """The characters that a soft token of a picture can stand for."""

    def picture(self, image: "Image") -> "Image":
        """An RGB picture of a problem as the checkpoint was trained on it."""

    def read(self, characters: str, doubtful: Collection[int] = ()) -> str:
        """The problem in a picture, as `prepare` gives it, from a character for each soft token.

        doubtful: the soft tokens that are not close to any character. PromptError where the picture
        shows no problem, or one that was misread.
        """

    def template(self, text: str) -> tuple[str, str]:
        """A problem as a template that has holes for what is asked, and the prompt for it."""

    def problem(self, prompt: str, answer: str) -> str | None:
        """The reason that `answer` does not solve `prompt`, in one line; None where it does."""

    def unsolvable(self, prompt: str) -> bool:
        """True where it is certain that no answer solves `prompt`."""

    def drawing(self, problem: str) -> tuple[str, ...]:
        """The lines of a problem, as `prepare` gives it, drawn for a reader."""

    @property
    def layout(self) -> Layout:
        """The drawing of a canvas; where it does not fit, tokens are shown one after the other."""


def embedded_folder(name: str) -> Path | None:
    """Folder of the embedded checkpoint `name`; None for every other name."""
    if name not in EMBEDDED:
        return None
    from importlib.resources import files  # imported late: it alone costs about 15 ms of start-up

    return Path(str(files(__name__) / name))


def _sudoku() -> Task:
    from .sudoku import SudokuTask

    return SudokuTask()


TASKS: Mapping[str, Callable[[], Task]] = {"sudoku": _sudoku}
"""The tasks by the names that the config.json of a checkpoint may give."""
