"""The grid in a picture of a Sudoku: its frame found, and the picture cropped to it.

Axes: h, w pixels of a picture made small.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..images.raster import Box, contrast, on_canvas, resized, shrunk

if TYPE_CHECKING:
    from PIL.Image import Image

CELL = 48  # pixels of a prepared cell, which is one soft token
SIDE, WIDTH = 9 * CELL, 10 * CELL  # nine cells, and a tenth column in place of the line break
LOOKED_AT = 480  # pixels: the frame is looked for in a picture no larger than this
LEAST_CONTRAST = 12  # grey levels
SHARE_OF_STRONG = 0.4  # of the contrast that two percent of a picture have
LEAST_SHARE, SHARE_OF_LONGEST = 0.2, 0.35  # of a row that a line of the frame marks
LEAN = 2  # pixels that a line may be off a row to either side
LEAST_SIZE = 0.4  # of the shorter side of the picture
SQUARE = (0.87, 1.15)  # width of a grid by its height

Marks = NDArray[np.bool_]


class Span(NamedTuple):
    """The first row of a grid, and one past its last."""

    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.first


def prepared(image: "Image") -> "Image":
    """An RGB picture of a grid as tiny-sudoku was trained on it: 480x432, the grid at the left.

    Cell (row, column) becomes soft token 10 * row + column; the tenth column is background.
    """
    return on_canvas(resized(image, SIDE, frame(image) or whole(image)), WIDTH, SIDE)


def frame(image: "Image") -> Box | None:
    """The box of the grid's frame in an RGB picture; None where no square frame stands out.

    Lines are dark or light against what is around them, whatever the light on the page.
    """
    small = shrunk(image, LOOKED_AT)
    rim = max(small.size) // 12
    away = contrast(small, rim, rim / 2)
    strong = SHARE_OF_STRONG * np.percentile(away, 98)
    found = _square(away > max(LEAST_CONTRAST, strong))
    if found is None:
        return None
    rows, columns = found
    x, y = image.width / small.width, image.height / small.height
    return columns.first * x, rows.first * y, columns.end * x, rows.end * y


def whole(image: "Image") -> Box:
    """All of a picture, or its left nine tenths where it has the shape of a prepared one."""
    as_prepared = abs(image.width / image.height - WIDTH / SIDE) < 0.01
    return 0, 0, 0.9 * image.width if as_prepared else image.width, image.height


def _square(marked: Marks) -> tuple[Span, Span] | None:
    """Rows and columns of the outermost long lines [h, w]; None where they make no square."""
    rows, columns = _outermost(marked), _outermost(marked.T)
    if rows is None or columns is None:
        return None
    large = min(rows.length, columns.length) >= LEAST_SIZE * min(marked.shape)
    least, most = SQUARE
    if not large or not least < columns.length / rows.length < most:
        return None
    return rows, columns


def _outermost(marked: Marks) -> Span | None:
    """The rows from the first to the last one along which a line lies."""
    share: Any = _thickened(marked).mean(axis=1)
    (lines,) = np.nonzero(share > max(LEAST_SHARE, SHARE_OF_LONGEST * share.max()))
    if not lines.size:
        return None
    first, last = int(lines[0]), int(lines[-1])
    return Span(max(0, first + LEAN), min(len(share), last + 1 - LEAN))


def _thickened(marked: Marks) -> Marks:
    """Marks that reach LEAN rows up and down, so that a line that leans marks one row whole."""
    thick = marked.copy()
    for step in range(1, LEAN + 1):
        thick[step:] |= marked[:-step]
        thick[:-step] |= marked[step:]
    return thick
