"""The image processor of transformers and ours on the same images: equal pixels and positions."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import MODES, file_of, picture, sizes
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.gemma4 import image_processing_pil_gemma4 as reference

from mlx_diffgemma.images.pixels import Pixels
from mlx_diffgemma.images.prepare import prepare_image

pytestmark = pytest.mark.reference

BUDGETS = (70, 99, 140, 280, 560, 1120)


@pytest.fixture(autouse=True)
def _any_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """99 is tiny-sudoku's; the reference's processor offers the other five alone."""
    monkeypatch.setattr(reference, "_SUPPORTED_SOFT_TOKENS", BUDGETS)


def assert_equal(ours: Pixels, image: Image.Image, budget: int) -> None:
    theirs = reference.Gemma4ImageProcessorPil(max_soft_tokens=budget)(image, return_tensors="np")
    values, positions = theirs["pixel_values"][0], theirs["image_position_ids"][0]
    used = ours.soft_tokens * 9
    assert theirs["num_soft_tokens_per_image"] == [ours.soft_tokens]
    assert ours.patches.dtype == values.dtype == np.float32
    np.testing.assert_array_equal(ours.patches, values[:used])
    np.testing.assert_array_equal(ours.positions, positions[:used])
    assert (positions[used:] == -1).all()
    assert not values[used:].any()


def cases() -> Iterator[tuple[int, tuple[int, int], str, int]]:
    """200 sizes in eight modes and six budgets: each mode with 25 sizes."""
    for number, size in enumerate(sizes(200)):
        yield number, size, MODES[number % len(MODES)], BUDGETS[number % len(BUDGETS)]


@pytest.mark.parametrize("mode", MODES)
def test_values_and_positions_are_the_processors(mode: str) -> None:
    for number, size, its_mode, budget in cases():
        if its_mode == mode:
            image = picture(size, mode, seed=number)
            assert_equal(prepare_image(image, budget, exif=False), image, budget)


def files() -> dict[str, bytes]:
    """What only a file, or the `info` of an image, can say: transparent colours, turns, depths."""
    turned = Image.Exif()
    turned[0x0112] = 6
    grey, colours, palette = (picture((61, 43), mode) for mode in ("L", "RGB", "P"))
    frames = [picture((40, 30), seed=number) for number in range(3)]
    wide = np.linspace(0, 65535, 61 * 43 * 3).astype(">u2").reshape(43, 61, 3)
    return {
        "palette with alphas": file_of(palette, "PNG", transparency=bytes(range(256))),
        "palette with a clear colour": file_of(palette, "GIF", transparency=5),
        "grey with a clear shade": file_of(grey, "PNG", transparency=grey.getpixel((3, 3))),
        "a clear colour": file_of(colours, "PNG", transparency=colours.getpixel((3, 3))),
        "jpeg": file_of(colours, "JPEG", quality=80),
        "jpeg in cmyk": file_of(picture((61, 43), "CMYK"), "JPEG"),
        "a turned jpeg": file_of(colours, "JPEG", exif=turned),
        "a turned tiff": file_of(colours, "TIFF", exif=turned),
        "webp with alpha": file_of(picture((61, 43), "RGBA"), "WEBP"),
        "the first of several": file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "colours of 16 bits": png_of_16_bits(wide),
        "avif": file_of(colours, "AVIF"),
    }


def png_of_16_bits(values: NDArray[np.uint16]) -> bytes:
    """Pillow writes none: a PNG of big-endian RGB [H, W, 3] by hand."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"]
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("name", files())
def test_files_are_seen_as_the_processor_sees_them(name: str) -> None:
    data = files()[name]
    assert_equal(prepare_image(data, 70, exif=False), Image.open(BytesIO(data)), 70)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_path_is_turned_as_the_loader_turns_it(orientation: int, tmp_path: Path) -> None:
    """transformers' load_image(path) goes by EXIF, its processor does not."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.jpg").write_bytes(file_of(picture((61, 43)), "JPEG", exif=exif))
    image = load_image(str(tmp_path / "a.jpg"))
    assert_equal(prepare_image(tmp_path / "a.jpg", 70), image, 70)
