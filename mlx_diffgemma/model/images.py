"""Images in a prompt: the runs of placeholders that stand for them, and what must not be cut.

A placeholder is the id of a soft token; a run is the positions of one image's. Axes: L positions.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..errors import PromptError, counted
from ..images.pixels import Pixels


@dataclass(frozen=True)
class ImageRun:
    """The positions start <= p < stop of an image in a prefix; digest: of what the tower saw."""

    start: int
    stop: int
    digest: str


@dataclass(frozen=True)
class Placed:
    """An image and the indices that its soft tokens take among the ids at hand."""

    span: range
    pixels: Pixels

    @property
    def digest(self) -> str:
        """The hash of what the tower sees."""
        return self.pixels.digest

    def run(self, offset: int) -> ImageRun:
        """Its run where the ids begin at position `offset`."""
        return ImageRun(self.span.start + offset, self.span.stop + offset, self.pixels.digest)

    def within(self, piece: range) -> "Placed":
        """The same among the ids of a piece."""
        first = self.span.start - piece.start
        return Placed(range(first, first + len(self.span)), self.pixels)


def placed(ids: Sequence[int], images: Sequence[Pixels], image_id: int | None) -> list[Placed]:
    """Each image with its run in ids [L], in order; PromptError where runs and images differ.

    Two runs have another token between them: the reference takes neighbours for one image, whose
    positions all see one another.
    """
    spans = list(_spans(ids, image_id))
    if len(spans) != len(images):
        at = f", the first at position {spans[0].start}" if spans else ""
        raise PromptError(
            f"the prompt has {counted(len(spans), 'run')} of image placeholders (token id "
            f"{image_id}){at}, and there {_are(len(images))}; expected a run for each image, with "
            "another token between two, and the images in the order of their runs."
        )
    for number, (span, image) in enumerate(zip(spans, images, strict=True), 1):
        if len(span) != image.soft_tokens:
            raise PromptError(
                f"image {number} has {counted(len(span), 'placeholder')} at position {span.start} "
                f"of the prompt, expected {image.soft_tokens}; repeat the placeholder as often as "
                "the image has soft tokens."
            )
    return [Placed(span, image) for span, image in zip(spans, images, strict=True)]


def require_apart(inside: Sequence[Placed], before: Sequence[ImageRun], length: int) -> None:
    """PromptError where the first of the images follows one that ends a prefix of `length`."""
    ends_with_one = bool(before) and before[-1].stop == length
    if ends_with_one and inside and inside[0].span.start == 0:
        raise PromptError(
            "the first image begins where the prefix ends with one, expected another token "
            "between two; end each image with the token that the prompt format has for it."
        )


def pieces(length: int, most: int, spans: Sequence[range]) -> Iterator[range]:
    """The indices below `length` in pieces of at most `most`, or one span that is longer.

    No piece ends inside one of the spans, which ascend.
    """
    starts = [span.start for span in spans]
    first = 0
    while first < length:
        last = min(first + most, length)
        before = bisect_left(starts, last) - 1  # the last span that begins in front of the cut
        if before >= 0 and last < spans[before].stop:
            last = starts[before] if starts[before] > first else spans[before].stop
        yield range(first, last)
        first = last


def _spans(ids: Sequence[int], image_id: int | None) -> Iterator[range]:
    """The runs of placeholders."""
    first = 0
    for token, group in groupby(ids):
        last = first + len(list(group))
        if token == image_id:
            yield range(first, last)
        first = last


def _are(count: int) -> str:
    return f"{'is' if count == 1 else 'are'} {counted(count, 'image')}"
