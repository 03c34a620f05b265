"""Images in a prompt: the runs of placeholders that stand for them, and what must not be cut.

A run is the positions of one image's soft tokens. Axes: L positions.
"""

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

    def run(self, offset: int) -> ImageRun:
        """Its run where the ids begin at position `offset`."""
        return ImageRun(self.span.start + offset, self.span.stop + offset, self.pixels.digest)


def placed(ids: Sequence[int], images: Sequence[Pixels], image_id: int | None) -> list[Placed]:
    """Each image with its run in ids [L], in order; PromptError where runs and images differ."""
    spans = list(_spans(ids, image_id))
    wanted = [image.soft_tokens for image in images]
    if [len(span) for span in spans] == wanted:
        return [Placed(span, image) for span, image in zip(spans, images, strict=True)]
    got = [len(span) for span in spans]
    number, pair = next(
        (n, pair) for n, pair in enumerate(_pairs(got, wanted), 1) if pair[0] != pair[1]
    )
    raise PromptError(
        f"the prompt has {counted(len(got), 'run')} of image placeholders for "
        f"{counted(len(wanted), 'image')}; run {number} has {pair[0]} positions, its image "
        f"{pair[1]} soft tokens; expected a run for each image, as long as the image has soft "
        "tokens."
    )


def keyed(ids: Sequence[int], runs: Sequence[ImageRun]) -> list[object]:
    """The ids with each image's replaced by its digest: what two prompts share shows in these."""
    keys: list[object] = list(ids)
    for run in runs:
        keys[run.start : run.stop] = [run.digest] * (run.stop - run.start)
    return keys


def pieces(length: int, most: int, spans: Sequence[range]) -> Iterator[range]:
    """The indices below `length` in pieces of at most `most`, or one span that is longer.

    No piece ends inside a span.
    """
    first = 0
    while first < length:
        last = min(first + most, length)
        cut = next((span for span in spans if span.start < last < span.stop), None)
        if cut is not None:
            last = cut.start if cut.start > first else cut.stop
        yield range(first, last)
        first = last


def shifted(span: range, by: int) -> range:
    """The span moved by so many positions."""
    return range(span.start + by, span.stop + by)


def _spans(ids: Sequence[int], image_id: int | None) -> Iterator[range]:
    first = 0
    for is_image, group in groupby(ids, lambda token: token == image_id):
        last = first + sum(1 for _ in group)
        if is_image:
            yield range(first, last)
        first = last


def _pairs(got: list[int], wanted: list[int]) -> Iterator[tuple[int, int]]:
    """Lengths side by side, 0 where there is none."""
    for index in range(max(len(got), len(wanted))):
        yield (
            got[index] if index < len(got) else 0,
            wanted[index] if index < len(wanted) else 0,
        )
