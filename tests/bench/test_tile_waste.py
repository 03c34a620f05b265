"""The arithmetic of the experts' tiles: by hand, and as the docs have it."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = str(ROOT / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import tile_waste  # noqa: E402

from mlx_diffgemma.share import predicted  # noqa: E402


def test_the_docs_have_the_table_of_the_script() -> None:
    assert "\n".join(tile_waste.table()) in (ROOT / "docs" / "kernels.md").read_text()


def test_whole_tiles_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts of 17 and of 3 rows, and one without."""
    monkeypatch.setattr(tile_waste, "TOP_K", 1)
    monkeypatch.setattr(tile_waste, "counts", lambda rows: np.array([[17, 0, 3]]))
    found = tile_waste.waste(20)
    assert found.touched == 2
    assert found.computed == pytest.approx({8: 32 / 20, 16: 48 / 20, 32: 64 / 20})
    assert found.unpacked == pytest.approx({8: 2, 16: 1.5, 32: 1})


def test_every_row_has_eight_experts() -> None:
    found = tile_waste.counts(4)
    assert found.shape == (tile_waste.DRAWS, 128)
    assert (found.sum(axis=1) == 4 * 8).all()
    assert found.max() == 4


def test_what_macs_share_is_predicted_by_these_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = tile_waste.counts(256)
    for rows, figure in predicted.WASTE:
        assert tile_waste.waste(rows).computed[16] == pytest.approx(figure, abs=0.005)
    monkeypatch.setattr(tile_waste, "DRAWS", 4)  # many rows vary less
    for rows, figure in predicted.PROMPT_WASTE:
        assert tile_waste.waste(rows).computed[16] == pytest.approx(figure, abs=0.02)
    monkeypatch.setattr(tile_waste, "counts", lambda rows: drawn)
    for macs, figure in predicted.BUSIEST:
        assert tile_waste.busiest(macs) == pytest.approx(figure, abs=0.005)
