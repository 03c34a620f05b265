"""Modes of Pillow's, transparency and orientation."""

from io import BytesIO

import numpy as np
import pytest
from facts import raises
from pictures import MODES, file_of, picture
from PIL import Image, ImageOps

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.prepare import open_image

WHITE, RED = (255, 255, 255), (200, 10, 10)


def rgb(image: object, *, exif: bool = True) -> np.ndarray:
    return np.asarray(open_image(image, exif=exif).image)


# --- transparency


@pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.endswith("A")])
def test_a_mode_without_alpha_is_converted(mode: str) -> None:
    image = picture((40, 30), mode)
    np.testing.assert_array_equal(rgb(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    image = picture((40, 30), mode)
    rgba = np.asarray(image.convert("RGBA")).astype(int)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(rgb(image) - expected).max() <= 1
    assert (rgb(image)[rgba[..., 3] == 0] == 255).all()


@pytest.mark.parametrize(
    ("mode", "clear"), [("P", 3), ("P", bytes(range(256))), ("L", 7), ("RGB", RED), ("1", 1)]
)
def test_a_transparent_colour_shows_white(mode: str, clear: object) -> None:
    image = Image.new(mode, (4, 2), clear if isinstance(clear, int | tuple) else 0)
    if mode == "P":
        image.putpalette(bytes([10, 20, 30]) * 256)
    image.info["transparency"] = clear
    assert (rgb(image) == 255).all()


def test_a_palette_with_transparency_survives_a_file() -> None:
    image = picture((40, 30), "P")
    data = file_of(image, "PNG", transparency=bytes([0, 128] + [255] * 254))
    again = Image.frombytes("P", image.size, image.tobytes())
    again.putpalette(image.getpalette() or [])
    again.info["transparency"] = bytes([0, 128] + [255] * 254)
    np.testing.assert_array_equal(rgb(data), rgb(again))
    assert (rgb(data)[np.asarray(image) == 0] == 255).all()


# --- 16 and 32 bits


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_16_bits_are_scaled_not_clipped(mode: str) -> None:
    values = np.array([[0, 255, 256, 257], [32767, 32768, 65534, 65535]], np.uint16)
    data = values.astype(">u2" if mode.endswith("B") else "<u2").tobytes()
    image = Image.frombytes(mode, (4, 2), data)
    grey = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(rgb(image), grey)


def test_16_bits_in_a_file_are_those_of_16_bit_colours() -> None:
    """Pillow takes the upper byte of 16-bit colours: grey of 16 bits looks the same."""
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    grey = file_of(Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(rgb(grey)[..., 0], values >> 8)


def test_a_transparent_grey_of_16_bits_shows_white() -> None:
    image = Image.fromarray(np.array([[1000, 1001]], np.uint16))
    data = file_of(image, "PNG", transparency=1000)
    assert rgb(data)[0].tolist() == [[255, 255, 255], [3, 3, 3]]


@pytest.mark.parametrize(("mode", "numbers"), [("I", "whole numbers"), ("F", "floating-point")])
def test_32_bits_without_a_known_white_are_refused(mode: str, numbers: str) -> None:
    with raises(ImageError, "32-bit", numbers, "8 or 16 bits"):
        open_image(file_of(Image.new(mode, (4, 2)), "TIFF"))


@pytest.mark.parametrize("mode", ["HSV", "YCbCr"])
def test_other_colour_spaces_are_converted(mode: str) -> None:
    image = Image.new(mode, (4, 2), (90, 120, 130))
    np.testing.assert_array_equal(rgb(image), np.asarray(image.convert("RGB")))


def test_a_mode_that_pillow_does_not_convert_is_one_line() -> None:
    with raises(ImageError, "the image ... La"):
        open_image(Image.new("La", (4, 2)))


# --- orientation


def stored_turned(orientation: int, kind: str = "JPEG", **how: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(picture((40, 24), seed=2), kind, exif=exif, **how)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_turned_upright(orientation: int) -> None:
    data = stored_turned(orientation)
    stored = rgb(data, exif=False)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    np.testing.assert_array_equal(rgb(data), np.asarray(upright))
    assert stored.shape == (24, 40, 3)
    assert rgb(data).shape[:2] == ((40, 24) if orientation > 4 else (24, 40))
    assert (orientation == 1) == np.array_equal(rgb(data), stored)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_with_exif_is_turned_once(kind: str) -> None:
    how = {"lossless": True} if kind == "WEBP" else {}
    data = stored_turned(6, kind, **how)
    upright = np.asarray(picture((40, 24), seed=2).transpose(Image.Transpose.ROTATE_270))
    assert rgb(data).shape == upright.shape
    if kind != "AVIF":  # which is lossy
        np.testing.assert_array_equal(rgb(data), upright)


def test_an_image_of_pillows_own_is_turned_too() -> None:
    image = Image.open(BytesIO(stored_turned(6)))
    assert open_image(image).image.size == (24, 40)
    assert open_image(image, exif=False).image.size == (40, 24)
    assert (open_image(image).width, open_image(image).height) == (24, 40)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_changes_nothing(orientation: int) -> None:
    data = stored_turned(orientation)
    np.testing.assert_array_equal(rgb(data), rgb(data, exif=False))


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish"]
)
def test_a_broken_exif_block_is_no_broken_image(block: bytes) -> None:
    data = file_of(picture((40, 24)), "JPEG", exif=block)
    np.testing.assert_array_equal(rgb(data), rgb(data, exif=False))


def test_transparency_is_laid_on_white_before_an_image_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture((40, 24), "RGBA")
    data = file_of(image, "PNG", exif=exif)
    expected = open_image(image.transpose(Image.Transpose.ROTATE_270)).image
    np.testing.assert_array_equal(rgb(data), np.asarray(expected))
