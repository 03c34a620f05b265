"""Images and videos in the text of a prompt: the placeholders that a chat template writes for them.

Before the text is tokenised each is expanded, as the reference's processor does it: an image's to
as many as it has soft tokens, between a begin and an end; a video's to its frames, each an image
behind its time. Source: transformers 5.24, `models/gemma4/processing_gemma4.py`; the ids of a frame
are those of an image, since this model reads no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..checkpoint.vision import NO_IMAGE_IDS, ImageIds
from ..errors import CheckpointError, counted
from ..images.pixels import Pixels
from ..images.video import Clip
from .control import VIDEO
from .tokenizer import Tokenizer

Medium = Pixels | Clip


@dataclass(frozen=True)
class Encoded:
    """The ids of a prompt, and the image of each run of placeholders in them."""

    ids: list[int]
    images: tuple[Pixels, ...] = ()


@dataclass(frozen=True)
class Spelling:
    """The texts of an image's three tokens: in front of it, of a soft token, and behind it."""

    begin: str
    soft: str
    end: str

    def found(self, text: str) -> str | None:
        """The first placeholder in a text."""
        places = {text.find(marker): marker for marker in (self.soft, VIDEO) if marker in text}
        return places[min(places)] if places else None

    def differing(self, pieces: Sequence[str], media: Sequence[Medium]) -> str | None:
        """Got and expected where a text's placeholders are not as many as the media."""
        clips = sum(isinstance(medium, Clip) for medium in media)
        wanted = ((self.soft, "image", len(media) - clips), (VIDEO, "video", clips))
        for marker, noun, count in wanted:
            if (got := sum(piece.count(marker) for piece in pieces)) != count:
                return f"{got} {marker} for {counted(count, noun)}"
        return None

    def encoded(
        self, tokenizer: Tokenizer, pieces: Sequence[str], media: Sequence[Medium]
    ) -> Encoded:
        """The ids of a text in pieces, each encoded alone.

        Its placeholders are as many as the media, of each kind in order.
        """
        images = iter([medium for medium in media if isinstance(medium, Pixels)])
        clips = iter([medium for medium in media if isinstance(medium, Clip)])
        placed: list[Pixels] = []

        def frames(match: re.Match[str]) -> str:
            if match[0] == VIDEO:
                return " ".join(self._clip(next(clips), placed))
            return self._image(next(images), placed)

        pattern = f"{re.escape(self.soft)}|{re.escape(VIDEO)}"
        expanded = [re.sub(pattern, frames, piece) for piece in pieces]
        return Encoded(tokenizer.encode_pieces(expanded), tuple(placed))

    def _clip(self, clip: Clip, placed: list[Pixels]) -> Iterator[str]:
        for frame, stamp in zip(clip.frames, clip.stamps, strict=True):
            yield f"{stamp} {self._image(frame, placed)}"

    def _image(self, pixels: Pixels, placed: list[Pixels]) -> str:
        placed.append(pixels)
        return f"{self.begin}{self.soft * pixels.soft_tokens}{self.end}"


def find_spelling(tokenizer: Tokenizer, ids: ImageIds | None) -> Spelling | None:
    """The Spelling of a checkpoint's image ids; None where it has none, or its tokenizer."""
    if ids is None:
        return None
    texts = [tokenizer.token_of(token) for token in (ids.begin, ids.soft, ids.end)]
    written = [text for text in texts if text is not None]
    return Spelling(*written) if len(written) == len(texts) else None


def require_spelling(tokenizer: Tokenizer, ids: ImageIds | None) -> Spelling:
    """The Spelling of a checkpoint's image ids; CheckpointError where no prompt can hold images."""
    if ids is None:
        raise CheckpointError(f"{tokenizer.folder / 'config.json'} {NO_IMAGE_IDS}")
    wanted = [ids.begin, ids.soft, ids.end]
    spelling = find_spelling(tokenizer, ids)
    if spelling is None or tokenizer.encode("".join(vars(spelling).values())) != wanted:
        raise CheckpointError(
            f"{tokenizer.folder / 'tokenizer.json'} has no text of its own for each of {wanted}, "
            "the ids of an image in config.json; download both files again."
        )
    return spelling
