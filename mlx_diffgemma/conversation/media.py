"""The images and the video of a question: checked, and prepared before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..assets import Task
from ..checkpoint.config import ModelConfig
from ..checkpoint.vision import require_vision
from ..errors import Setting, SettingsError, brief
from ..images.pixels import Pixels
from ..images.prepare import open_image, prepare_image
from ..images.video import Clip, prepare_video
from ..text.placeholders import Medium, require_spelling
from ..text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Given:
    """Images and a video as a caller gives them.

    images: one or a list of them, each as `prepare_image` takes it, or its Pixels; video: as
    `prepare_video` takes it, or its Clip; image_tokens: soft tokens of each image at most, None for
    the checkpoint's own number. Frames of a video have their own, 70.
    """

    images: Any = ()
    video: Any = None
    image_tokens: int | None = None

    def __bool__(self) -> bool:
        return bool(self.each_image) or self.video is not None

    @property
    def each_image(self) -> Sequence[Any]:
        """The images, also where one was given alone."""
        if self.images is None:
            return ()
        return self.images if isinstance(self.images, list | tuple) else (self.images,)

    def prepared(
        self, config: ModelConfig, tokenizer: Tokenizer, task: Task | None = None
    ) -> tuple[Medium, ...]:
        """Images, then the video, as the network takes them; task: that they are a problem of.

        CheckpointError where the checkpoint sees none, before anything is decoded; SettingsError
        for a number of soft tokens that it does not offer, or that concerns no image; ImageError
        for what cannot be decoded.
        """
        if self:
            require_sight(config, tokenizer)
        budget = self._budget(config, task)
        images = tuple(_as_pixels(image, budget, task) for image in self.each_image)
        if self.video is None:
            return images
        return (*images, self.video if isinstance(self.video, Clip) else prepare_video(self.video))

    def _budget(self, config: ModelConfig, task: Task | None) -> int:
        """The soft tokens that an image may take; a task was trained on one number alone."""
        vision, wanted = config.vision, self.image_tokens
        if wanted is None:
            return vision.soft_tokens if vision else 0
        if not any(not isinstance(image, Pixels) for image in self.each_image):
            found = "Pixels, which are prepared" if self.each_image else "no image"
            raise SettingsError(
                Setting("image_tokens"), f" is given beside {found}; leave it out, or give images."
            )
        vision = require_vision(vision)
        if task and wanted != vision.soft_tokens:
            raise SettingsError(
                Setting("image_tokens"),
                f" is {brief(wanted)}, expected {vision.soft_tokens}, which this checkpoint was "
                "trained on; leave it out.",
            )
        return vision.budget(wanted)


def _as_pixels(image: Any, budget: int, task: Task | None) -> Pixels:
    """An image as the network takes it; Pixels stay as they are."""
    if isinstance(image, Pixels):
        return image
    if task is None:
        return prepare_image(image, budget)
    opened = open_image(image)
    return prepare_image(replace(opened, image=task.picture(opened.image)), budget)


def require_sight(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """CheckpointError where the checkpoint sees no images: it lacks the tower, or the ids."""
    require_vision(config.vision)
    require_spelling(tokenizer, config.image_ids)


def sampled(media: Sequence[Medium]) -> tuple[str, ...]:
    """A line for each video of which the model sees less than a frame a second."""
    return tuple(
        f"the video is {clip.seconds:,.1f} seconds long; the model sees {len(clip.frames)} frames "
        f"of it, one every {clip.seconds / len(clip.frames):.1f} seconds."
        for clip in media
        if isinstance(clip, Clip) and clip.seconds > len(clip.frames)
    )
