"""What tiny-sudoku sees: its features and logits for two pictures against the reference's.

scripts/make_golden.py says what seen.npz holds. Text cannot tell the masks apart here: puzzles are
solved with either. Logits can.
"""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close

import mlx_diffgemma as dg
from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.images.pixels import Pixels, Source

FEATURES, LOGITS = 1e-5, 1e-4  # values to 9 and 25
PICTURES = 2


@pytest.fixture(scope="module")
def seen() -> dict[str, np.ndarray]:
    return dict(np.load(Path(__file__).parent / "data" / "seen.npz"))


@pytest.fixture(scope="module")
def model() -> dg.Model:
    return dg.load_model(embedded_folder("tiny-sudoku"), dtype=mx.float32)


def pixels(seen: dict[str, np.ndarray], number: int) -> Pixels:
    rgb = seen["pictures"][number]
    return Pixels(rgb, rgb.shape[1], rgb.shape[0], Source(None, ""))


@pytest.mark.parametrize("number", range(PICTURES))
def test_features(model: dg.Model, seen: dict[str, np.ndarray], number: int) -> None:
    (features,) = model.image_features([pixels(seen, number)])
    assert_close(features, seen["features"][number], FEATURES, "tiny-sudoku's features")


@pytest.mark.parametrize("number", range(PICTURES))
def test_logits(model: dg.Model, seen: dict[str, np.ndarray], number: int) -> None:
    prompt, canvas = seen["prompt"].tolist(), mx.array(seen["canvas"][number])
    prefix = model.encode(prompt, images=[pixels(seen, number)])
    assert (prefix.length, prefix.images[0].start, prefix.images[0].stop) == (98, 4, 94)
    got = np.array(model.logits(model.decode(canvas, prefix))[0])
    assert_close(got, seen["logits"][number], LOGITS, "tiny-sudoku's logits, of a picture")
    assert np.abs(got - seen["causal"][number]).max() > 1, "a causal image would pass"
