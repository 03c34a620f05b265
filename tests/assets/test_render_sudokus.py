"""scripts/render_sudokus.py: pictures in many styles, and how many of them are read whole."""

import numpy as np
import pytest
import rendered
from PIL import Image

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.media import Given
from mlx_diffgemma.conversation.puzzle import soft_characters

SCRIPT = rendered.renderer()
PUZZLE = rendered.puzzles()[0]


@pytest.fixture(scope="module")
def session():
    return dg.load("tiny-sudoku")


@pytest.mark.parametrize("noisy", [False, True])
def test_a_seed_gives_the_same_pictures(noisy):
    fonts = [None]
    first, again, other = (
        [np.asarray(p) for p in SCRIPT.random_pictures([PUZZLE] * 3, seed, fonts, noisy=noisy)]
        for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_ink_and_paper_are_apart():
    rng = np.random.default_rng(1)
    for _ in range(300):
        paper, ink = SCRIPT.random_colours(rng)
        assert abs(np.mean(paper) - np.mean(ink)) > 70, (paper, ink)


def test_the_script_writes_a_picture_a_line(tmp_path, monkeypatch, capsys):
    puzzles = tmp_path / "puzzles.txt"
    puzzles.write_text(f"{PUZZLE}\n{PUZZLE.replace('0', '.')}\n")
    command = ["render_sudokus.py", str(tmp_path / "out"), str(puzzles), "--plain"]
    monkeypatch.setattr("sys.argv", command)
    assert SCRIPT.main() == 0
    first, second = sorted((tmp_path / "out").iterdir())
    assert (first.name, second.name) == ("001.png", "002.png")
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.size == (440, 440)
    assert SCRIPT.main() == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize(("noisy", "least"), [(False, 0.92), (True, 0.85)])
def test_nearly_all_rendered_pictures_are_read_whole(session, noisy, least):
    """99.0% of the clean and 97.5% of the noisy ones in the fonts of DejaVu and Liberation."""
    if SCRIPT.font_files() == [None]:
        pytest.skip("neither DejaVu nor Liberation is here: no rate was measured")
    right = []
    for picture, puzzle in zip(rendered.pictures(noisy=noisy), rendered.puzzles(), strict=True):
        given = Given(picture)
        (pixels,) = given.prepared(session.model.config, session.tokenizer, session.task)
        read, _ = soft_characters(session.model, session.tokenizer, pixels, "0123456789")
        right.append("".join(read[cell] for cell in rendered.CELLS) == puzzle)
    print(f"{sum(right)} of {len(right)} read whole")
    assert np.mean(right) >= least
