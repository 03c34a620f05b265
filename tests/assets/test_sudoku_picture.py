"""The frame of a grid in a picture, and the picture that tiny-sudoku takes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mlx_diffgemma.assets import TASKS
from mlx_diffgemma.assets.sudoku_picture import frame, prepared, whole
from mlx_diffgemma.images.prepare import open_image, target_size

PICTURES = Path(__file__).parent / "data" / "pictures"
ENTRIES = json.loads((PICTURES / "pictures.json").read_text(encoding="utf-8"))
# Left, top, right, bottom of each frame, in pixels, measured in the pictures.
FRAMES = {
    "01-square.png": (0, 0, 432, 432),
    "02-wide-480x432.png": (0, 0, 432, 432),
    "03-wide-1000x900.png": (0, 0, 900, 900),
    "04-margin.png": (57, 57, 543, 543),
    "05-dark-app.png": (30, 30, 570, 570),
    "06-pencil.png": (20, 20, 488, 488),
    "07-palette.png": (12, 12, 408, 408),
    "08-newsprint.jpg": (36, 36, 468, 468),
    "09-leaning.jpg": (24, 24, 456, 456),
    "10-small.png": (6, 6, 222, 222),
    "11-grey.png": (40, 40, 760, 760),
    "12-hand.jpg": (40, 40, 544, 544),
    "13-page.png": (94, 64, 454, 424),
    "14-transparent.png": (24, 24, 456, 456),
}


def opened(name):
    return open_image(PICTURES / name).image


@pytest.mark.parametrize("name", FRAMES)
def test_the_frame_is_found(name):
    """To a tenth of a cell, or where the picture leans to a fifth."""
    found, expected = frame(opened(name)), FRAMES[name]
    cell = (expected[2] - expected[0]) / 9
    off = np.abs(np.subtract(found, expected)).max() / cell
    assert off <= 0.11, (found, expected)


@pytest.mark.parametrize("name", FRAMES)
def test_a_prepared_picture_has_ninety_cells(name):
    image = TASKS["sudoku"]().picture(opened(name))
    assert (image.size, image.mode) == ((480, 432), "RGB")
    assert target_size(*image.size, 99) == image.size
    tenth = np.asarray(image)[:, 432:]
    assert (tenth == tenth[0, 0]).all()


def test_the_grid_is_squared_into_the_left_of_the_picture():
    """A wide grid with a margin: its corners come to the corners of the square."""
    image = Image.new("RGB", (700, 600), "white")
    pen = ImageDraw.Draw(image)
    for line in range(10):
        x, y = 100 + 50 * line, 80 + 48 * line
        pen.line([(x, 80), (x, 512)], "black", 3)
        pen.line([(100, y), (550, y)], "black", 3)
    pen.rectangle([105, 85, 145, 122], "red")  # the first cell
    square = np.asarray(prepared(image)).astype(int)
    assert square[24, 24].tolist() == [255, 0, 0]
    assert square[24, 72].tolist() == square[72, 24].tolist() == [255, 255, 255]


def noise(height, width):
    return Image.fromarray(
        np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (600, 500), "white"),
        Image.new("RGB", (500, 500), "black"),
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (1, 5000), "white"),
        Image.new("RGB", (5000, 1), "white"),
        Image.new("RGB", (11, 7), "white"),
        noise(300, 400),
    ],
    ids=lambda image: f"{image.width}x{image.height}",
)
def test_without_a_frame_all_of_the_picture_is_taken(image):
    assert frame(image) is None
    assert whole(image) == (0, 0, *image.size)
    assert prepared(image).size == (480, 432)


@pytest.mark.parametrize(
    ("size", "width"), [((480, 432), 432), ((1000, 900), 900), ((700, 700), 700)]
)
def test_of_a_picture_in_the_prepared_shape_the_tenth_column_is_left_out(size, width):
    assert whole(Image.new("RGB", size)) == (0, 0, width, size[1])


def test_a_frame_that_is_no_square_is_none():
    image = Image.new("RGB", (600, 600), "white")
    ImageDraw.Draw(image).rectangle([50, 50, 550, 300], outline="black", width=4)
    assert frame(image) is None
