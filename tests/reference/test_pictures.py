"""What tiny-sudoku reads in rendered pictures, in transformers and here."""

from itertools import islice
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: no picture was read by the reference")

import rendered
from compare import assert_close
from oracle import Oracle

import mlx_diffgemma as dg
from mlx_diffgemma.assets import TASKS, embedded_folder
from mlx_diffgemma.images.prepare import prepare_image

pytestmark = [pytest.mark.reference, pytest.mark.slow]

FOLDER = cast(Path, embedded_folder("tiny-sudoku"))
FEATURES = 1e-4  # of numbers up to 9, summed in another order
DIGITS = range(48, 58)
COUNT = 100


@pytest.mark.parametrize("noisy", [False, True])
def test_the_same_ids_are_read(noisy: bool) -> None:
    """In 200 pictures, half of them noisy: features within FEATURES, every id the same."""
    oracle, model = Oracle(FOLDER), dg.load_model(FOLDER, dtype=mx.float32)
    task = TASKS["sudoku"]()
    table = np.array(model.embedding.lookup(mx.arange(128)))[list(DIGITS)]
    differences = []
    for picture in islice(rendered.pictures(noisy=noisy), COUNT):
        pixels = prepare_image(task.picture(picture), 99)
        (ours,) = model.image_features([pixels])
        ((_, theirs),) = oracle.soft_tokens([pixels.rgb])
        assert_close(ours, theirs, FEATURES, "features of a picture")
        distances = np.square(theirs[:, None] - table[None]).sum(axis=-1)
        read, _ = model.embedding.nearest(ours, DIGITS)
        differences.append(sum(np.array(read) != distances.argmin(axis=-1) + DIGITS[0]))
    assert len(differences) == COUNT
    assert sum(differences) == 0
