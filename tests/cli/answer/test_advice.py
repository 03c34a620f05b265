"""What there is of an interrupted answer, and the way on from one that was cut, in each mode."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import assert_says

from mlx_diffgemma.cli.answer.advice import kept_words
from mlx_diffgemma.generation.frame import Frame

CANVAS = Frame(0, 0, np.zeros(8, np.int32), np.zeros(8, np.float32), np.ones(8, np.bool_), True)
WRITTEN = replace(CANVAS, tokens=np.zeros(5, np.int32), mode="ar")


@pytest.mark.parametrize(
    ("kept", "asked", "words"),
    [
        ([], "diffusion", "no canvases finished"),
        ([], "auto", "no canvases finished"),
        ([], "ar", "no tokens kept"),
        ([CANVAS, CANVAS], "auto", "2 canvases finished"),
        ([WRITTEN, WRITTEN], "ar", "10 tokens kept"),
        ([CANVAS, WRITTEN], "auto", "1 canvas finished, 5 tokens kept"),
    ],
)
def test_what_there_is_in_words(kept: list[Frame], asked: str, words: str) -> None:
    assert kept_words(kept, asked) == words


def test_a_cut_answer_of_mode_ar_counts_tokens(run: Any, random_folder: Path) -> None:
    """Not whole canvases, of which 8 positions make one here."""
    command = ("generate", "Hi", "--model", random_folder, "--seed", 3, "--max-tokens", 5)
    for mode, more in (("diffusion", 16), ("ar", 10)):
        done = run(*command, "--mode", mode)
        assert_says(done.stderr[:-1], "cut at 5 tokens", f"--max-tokens {more} --seed 3")
