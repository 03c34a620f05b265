"""A problem given as a picture: what the network sees in it is read back, to be shown and checked.

The text network is given features, not digits. Each is close to the embedding of one character, as
the tower was trained, so that the reading is known exactly.
"""

from ..assets import Task
from ..checkpoint.config import ModelConfig
from ..errors import PromptError, counted
from ..images.pixels import Pixels
from ..model.text import Model
from ..share.guard import lost_macs
from ..text.tokenizer import Tokenizer
from .media import Given

DOUBTFUL = 0.7  # of the way from a character to the middle between two; docs/decisions.md


def read_puzzle(
    model: Model, tokenizer: Tokenizer, task: Task, prompt: str, given: Given
) -> tuple[Pixels, str]:
    """The picture of a problem as the network takes it, and the problem as the network reads it.

    Errors as `picture_of` and `puzzle_in` have them.
    """
    pixels = picture_of(model.config, tokenizer, task, prompt, given)
    return pixels, puzzle_in(model, tokenizer, task, pixels)


def picture_of(
    config: ModelConfig, tokenizer: Tokenizer, task: Task, prompt: str, given: Given
) -> Pixels:
    """The picture of a problem as the network takes it.

    PromptError: more than one picture, a text beside it, a video. For what else may be wrong with
    it see `Given.prepared`.
    """
    if prompt.strip():
        raise PromptError(
            "the problem is given as text and as a picture, expected one of them; leave one out."
        )
    return _only_picture(given.prepared(config, tokenizer, task))


def puzzle_in(model: Model, tokenizer: Tokenizer, task: Task, pixels: Pixels) -> str:
    """The problem as the network reads it in a picture; PromptError for none, or a misread one."""
    characters, away = soft_characters(model, tokenizer, pixels, task.characters)
    doubtful = [token for token, distance in enumerate(away) if distance > DOUBTFUL]
    return task.read(characters, doubtful)


def soft_characters(
    model: Model, tokenizer: Tokenizer, pixels: Pixels, characters: str
) -> tuple[str, list[float]]:
    """The one of `characters` that each soft token of an image is nearest to, and how far it is.

    For the unit see `Embedding.nearest`. ShareError where a Mac is lost that holds embeddings.
    """
    named = {tokenizer.id_of(character): character for character in characters}
    (features,) = model.image_features([pixels])
    known = [token for token in named if token is not None]
    with lost_macs(model.part.share):
        ids, away = model.embedding.nearest(features, known)
    return "".join(named[token] for token in ids), away


def _only_picture(media: tuple[object, ...]) -> Pixels:
    pictures = [medium for medium in media if isinstance(medium, Pixels)]
    if len(pictures) < len(media):
        raise PromptError("a video is given for a problem, expected one picture or a text.")
    if len(pictures) > 1:
        raise PromptError(
            f"{counted(len(pictures), 'picture')} are given for one problem, expected one; ask "
            "about each by itself."
        )
    return pictures[0]
