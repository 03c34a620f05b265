"""The image processor of transformers and ours on the same images: equal pixels and positions."""

from collections.abc import Iterator

import numpy as np
import pytest
from pictures import MODES, picture, sizes
from PIL import Image
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
