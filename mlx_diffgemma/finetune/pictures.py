"""Images of examples, which stay in their files until a batch needs them."""

from dataclasses import dataclass, replace

from ..assets import Task
from ..checkpoint.vision import VisionConfig, require_vision
from ..errors import DataError
from ..images.pixels import Pixels
from ..images.prepare import open_image, prepare_image
from ..model.images import Placed


@dataclass(frozen=True)
class Pictures:
    """The way from a file to Pixels, as a question to the checkpoint takes it."""

    vision: VisionConfig | None
    task: Task | None = None

    def open(self, path: str) -> Pixels:
        """The image in a file; CheckpointError where the checkpoint sees none, else ImageError."""
        budget = require_vision(self.vision).soft_tokens
        opened = open_image(path)
        if self.task:
            opened = replace(opened, image=self.task.picture(opened.image))
        return prepare_image(opened, budget)


@dataclass(frozen=True)
class ImageFile:
    """An image in a file, and the positions that its soft tokens take in an example."""

    span: range
    path: str
    digest: str
    pictures: Pictures

    def placed(self) -> Placed:
        """The image, read again; DataError where the file holds another one by now."""
        pixels = self.pictures.open(self.path)
        if pixels.digest != self.digest:
            raise DataError(
                f"{self.path}: another image than when the examples were read; begin again."
            )
        return Placed(self.span, pixels)
