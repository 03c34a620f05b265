"""Pictures resized, blurred and padded."""

import numpy as np
import pytest
from PIL import Image

from mlx_diffgemma.images.raster import background, contrast, on_canvas, resized, shrunk


def test_a_part_becomes_a_square() -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste("red", (10, 5, 30, 15))
    square = resized(image, 60, (12.5, 6.5, 27.5, 13.5))
    assert (square.size, square.getextrema()) == ((60, 60), ((255, 255), (0, 0), (0, 0)))


@pytest.mark.parametrize(
    ("size", "shown"),
    [((960, 480), (480, 240)), ((480, 480), (480, 480)), ((3, 2), (3, 2)), ((5000, 1), (480, 1))],
)
def test_no_side_is_longer_than_asked(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shrunk(Image.new("RGB", size), 480).size == shown


def test_background_is_the_colour_of_most() -> None:
    image = Image.new("RGB", (10, 10), (200, 190, 180))
    image.paste((0, 0, 0), (0, 0, 10, 4))
    assert background(image) == (200, 190, 180)
    padded = np.asarray(on_canvas(image, 14, 12))
    assert padded.shape == (12, 14, 3)
    assert (padded[:10, :10] == np.asarray(image)).all()
    assert (padded[10:] == (200, 190, 180)).all()
    assert (padded[:, 10:] == (200, 190, 180)).all()


@pytest.mark.parametrize("rim", [0, 1, 12])
def test_a_line_stands_out_from_its_surroundings_and_paper_does_not(rim: int) -> None:
    image = Image.new("RGB", (50, 40), "white")
    image.paste("black", (0, 0, 50, 1))
    away = contrast(image, rim, 4.0)
    assert away.shape == (40, 50)
    assert away[0].min() > 150
    assert away[25:].max() == 0
