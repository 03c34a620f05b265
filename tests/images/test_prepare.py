"""prepare_image: the sizes, the budget, and what it takes."""

import json
import random
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from math import floor, sqrt
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import raises
from pictures import file_of, picture, restored
from PIL import Image

from mlx_diffgemma.errors import ImageError, SettingsError
from mlx_diffgemma.images.pixels import Source
from mlx_diffgemma.images.prepare import Opened, open_image, prepare_image, target_size

# --- sizes


@pytest.mark.parametrize(
    ("given", "resized", "tokens"),
    [
        ((384, 188), (1104, 528), 253),
        ((768, 768), (768, 768), 256),
        ((1920, 1080), (1056, 576), 264),
    ],
)
def test_sizes_of_the_published_processor(
    given: tuple[int, int], resized: tuple[int, int], tokens: int
) -> None:
    assert target_size(*given, 280) == resized
    assert resized[0] * resized[1] == tokens * 48 * 48


@pytest.mark.parametrize(
    ("given", "budget", "resized"),
    [
        ((1, 5000), 280, (48, 280 * 48)),
        ((5000, 1), 280, (280 * 48, 48)),
        ((281, 1), 280, (280 * 48, 48)),
        ((280, 1), 280, (280 * 48, 48)),
        ((1, 563), 280, (48, 280 * 48)),
        ((1, 1), 1, (48, 48)),
    ],
)
def test_a_side_that_would_be_zero_is_48(
    given: tuple[int, int], budget: int, resized: tuple[int, int]
) -> None:
    assert target_size(*given, budget) == resized


def test_one_soft_token_holds_every_square() -> None:
    """Both sides may round to zero there, which the reference refuses; its budgets begin at 70."""
    assert {target_size(side, side, 1) for side in range(1, 3000)} == {(48, 48)}


def test_no_size_leaves_the_budget_or_the_grid() -> None:
    numbers = random.Random(3)
    for _ in range(5000):
        width, height = (floor(10 ** numbers.uniform(0, 4)) for _ in range(2))
        budget = numbers.randint(1, 1120)
        w, h = target_size(width, height, budget)
        assert w % 48 == h % 48 == 0 < min(w, h)
        assert w * h <= budget * 48 * 48, (width, height, budget)


def test_sizes_round_as_the_reference_does() -> None:
    for width, height in [(w, h) for w in range(1, 400, 3) for h in (w, 2 * w, 3 * w, 48, 432)]:
        for budget in (70, 99, 280):
            factor = sqrt(budget * 9 * 16**2 / (height * width))
            sides = [floor(factor * side / 48) * 48 for side in (width, height)]
            assert 0 in sides or list(target_size(width, height, budget)) == sides


# --- budgets


@pytest.mark.parametrize("budget", [0, -1, 1121, True, 2.0, "70", None, [70]])
def test_other_budgets_are_refused(budget: Any) -> None:
    with raises(SettingsError, "soft_tokens", "1", "1,120"):
        prepare_image(picture((9, 9)), budget)


@pytest.mark.parametrize("budget", [1, 99, np.int64(70), 1120])
def test_any_whole_number_from_1_to_1120_is_a_budget(budget: int) -> None:
    assert 0 < prepare_image(picture((90, 70)), budget).soft_tokens <= budget


def test_prepared_pixels_are_returned_as_they_are() -> None:
    pixels = prepare_image(picture((90, 70)), 70)
    assert prepare_image(pixels, 280) is pixels
    with raises(SettingsError, f"{pixels.soft_tokens} soft tokens", "soft_tokens", "10"):
        prepare_image(pixels, 10)


# --- what is taken

IMAGE = picture((70, 50), seed=4)


def as_(kind: str, tmp_path: Path) -> Any:
    data = file_of(IMAGE, "PNG")
    file = tmp_path / "a picture.png"
    file.write_bytes(data)
    array = np.asarray(IMAGE)
    return {
        "text": str(file),
        "path": file,
        "bytes": data,
        "bytearray": bytearray(data),
        "stream": BytesIO(data),
        "image": IMAGE,
        "array": array,
        "columns first": np.asfortranarray(array),
        "mlx": mx.array(array),
        "opened": open_image(IMAGE),
    }[kind]


KINDS = ("text", "path", "bytes", "bytearray", "stream", "image", "array", "columns first", "mlx")


@pytest.mark.parametrize("kind", [*KINDS, "opened"])
def test_every_source_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    pixels = prepare_image(as_(kind, tmp_path), 20)
    assert pixels.digest == prepare_image(IMAGE, 20).digest
    assert (pixels.width, pixels.height) == (70, 50)


def test_an_open_file_is_taken(tmp_path: Path) -> None:
    with as_("path", tmp_path).open("rb") as file:
        assert prepare_image(file, 20).digest == prepare_image(IMAGE, 20).digest


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_arrays_of_uint8_are_grey_colours_or_with_alpha(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert prepare_image(array, 4).digest == prepare_image(Image.fromarray(array), 4).digest


@pytest.mark.parametrize(
    ("array", "facts"),
    [
        (np.zeros((5, 7)), "float64 ... [5, 7] ... uint8"),
        (np.zeros((5, 7, 3), np.float32), "float32 ... [5, 7, 3] ... uint8"),
        (np.zeros((5, 7), np.uint16), "uint16 ... [5, 7]"),
        (np.zeros((5, 7), bool), "bool ... [5, 7]"),
        (np.zeros((3, 5, 7), np.uint8), "uint8 ... [3, 5, 7]"),
        (np.zeros((5, 7, 1), np.uint8), "uint8 ... [5, 7, 1]"),
        (np.zeros(5, np.uint8), "uint8 ... [5]"),
        (np.zeros((0, 7), np.uint8), "[0, 7]"),
        (np.zeros((5, 0, 3), np.uint8), "[5, 0, 3]"),
        (mx.zeros((5, 7), mx.bfloat16), "bfloat16 ... [5, 7]"),
    ],
)
def test_other_arrays_are_refused_with_dtype_and_shape(array: Any, facts: str) -> None:
    with raises(ImageError, facts):
        prepare_image(array)


@pytest.mark.parametrize("other", [None, 5, 3.5, {}, [1, 2], object])
def test_other_things_are_refused(other: Any) -> None:
    with raises(ImageError, "path ... bytes ... PIL ... array"):
        prepare_image(other)


def test_an_image_of_no_pixels_is_refused() -> None:
    with raises(ImageError, "0 x 5"):
        prepare_image(Image.new("RGB", (0, 5)))


def test_a_picture_whose_file_was_closed_is_one_line(tmp_path: Path) -> None:
    with Image.open(as_("path", tmp_path)) as image:
        pass
    with raises(ImageError, "the image"):
        prepare_image(image)


def test_a_picture_is_left_as_it_was() -> None:
    image = picture((30, 20), "RGBA")
    before = image.tobytes()
    prepare_image(image, 4)
    assert (image.mode, image.tobytes()) == ("RGBA", before)


# --- where it came from


def test_a_file_is_found_again_by_path_and_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = as_("path", tmp_path)
    monkeypatch.chdir(tmp_path)
    source = prepare_image(file.name, 4).source
    assert source.path == str(file)
    assert source.sha256 == sha256(file.read_bytes()).hexdigest()


def test_what_came_from_no_file_is_told_by_a_hash(tmp_path: Path) -> None:
    data = file_of(IMAGE, "PNG")
    for kind in ("bytes", "stream"):
        assert prepare_image(as_(kind, tmp_path), 20).source == Source(
            None, sha256(data).hexdigest()
        )
    sources = {prepare_image(as_(kind, tmp_path), 20).source for kind in ("image", "array", "mlx")}
    (source,) = sources
    assert source.path is None
    assert source != prepare_image(picture((70, 50), seed=5)).source


def test_a_part_of_an_opened_image_keeps_its_origin_and_size() -> None:
    opened = open_image(IMAGE)
    part = replace(opened, image=opened.image.crop((0, 0, 48, 48)))
    pixels = prepare_image(part, 1)
    assert (pixels.width, pixels.height, pixels.source) == (70, 50, opened.source)
    np.testing.assert_array_equal(pixels.rgb, np.asarray(IMAGE)[:48, :48])


def test_an_opened_image_is_opened_once() -> None:
    opened = open_image(IMAGE)
    assert isinstance(opened, Opened)
    assert open_image(opened) is opened
    assert opened.image.mode == "RGB"


# --- the reference's processor

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "pixels.npz")
CASES = json.loads(str(GOLDEN["cases"]))


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=lambda n: f"{CASES[n]['mode']}-{CASES[n]['size']}"
)
def test_pixels_and_positions_are_the_reference_processors(number: int) -> None:
    mode, budget = CASES[number]["mode"], CASES[number]["budget"]
    palette = GOLDEN[f"{number}.palette"] if mode in ("P", "PA") else None
    image = restored(mode, GOLDEN[f"{number}.image"], palette)
    pixels = prepare_image(image, budget, exif=False)
    values = (GOLDEN[f"{number}.values"] * (1 / 255)).astype(np.float32)
    difference = np.abs(pixels.patches - values)
    assert difference.max() == 0, (difference.max(), difference.mean())
    np.testing.assert_array_equal(pixels.positions, GOLDEN[f"{number}.positions"])
    assert list(image.size) == CASES[number]["size"]
