"""The images and the texts of a file's lines, as a question to the checkpoint has them.

Images stay in their files until a batch needs them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from ...assets import TASKS, Task
from ...checkpoint.config import ModelConfig
from ...checkpoint.vision import VisionConfig, require_vision
from ...errors import DataError
from ...images.pixels import Pixels
from ...images.prepare import open_image, prepare_image
from ...model.images import Placed


@dataclass(frozen=True)
class Asking:
    """folder: from which lines name images; task: the checkpoint's own, None for any prompt."""

    folder: Path
    vision: VisionConfig | None
    task: Task | None = None

    def image(self, path: str) -> Pixels:
        """The image that a line names; CheckpointError where none is seen, else ImageError."""
        budget = require_vision(self.vision).soft_tokens
        known = "://" in path  # which is refused by its own name
        opened = open_image(path if known else self.folder / Path(path).expanduser())
        if self.task:
            opened = replace(opened, image=self.task.picture(opened.image))
        return prepare_image(opened, budget)

    def text(self, text: str) -> str:
        """A user's text; PromptError where it is no problem of the task's. A blank one stays."""
        return self.task.prepare(text) if self.task and text.strip() else text


def asking_of(folder: Path, config: ModelConfig) -> Asking:
    """The Asking of a checkpoint, for the files in a folder."""
    return Asking(folder, config.vision, TASKS[config.task]() if config.task else None)


@dataclass(frozen=True)
class ImageFile:
    """An image in a file, and the positions that its soft tokens take in an example."""

    span: range
    path: str
    digest: str
    asking: Asking

    def placed(self) -> Placed:
        """The image, read again; DataError where the file holds another one by now."""
        pixels = self.asking.image(self.path)
        if pixels.digest != self.digest:
            raise DataError(
                f"{self.path}: another image than when the examples were read; begin again."
            )
        return Placed(self.span, pixels)
