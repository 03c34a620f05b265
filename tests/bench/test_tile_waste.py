"""The arithmetic of the experts' tiles: by hand, and as the docs have it."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = str(ROOT / "scripts" / "bench")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import tile_waste  # noqa: E402

from mlx_diffgemma.share import predicted  # noqa: E402
from mlx_diffgemma.share.part import CUTS  # noqa: E402

LINKS = ((0.2e-3, 6.3e9), (0.48e-3, 3e9), (0.48e-3, 1.1e9))  # of docs/several-macs.md


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


def test_whole_tiles_are_the_careful_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the eights that the kernels multiply all times are shorter, and gains stay gains."""
    by_tiles = predicted_steps()
    monkeypatch.setattr(tile_waste, "DRAWS", 20)
    eights = tuple((rows, tile_waste.waste(rows).computed[8]) for rows, _ in predicted.WASTE)
    monkeypatch.setattr(predicted, "WASTE", eights)
    for (tiles_ms, tiles_gain), (ms, gain) in zip(by_tiles, predicted_steps(), strict=True):
        assert 0.82 < ms / tiles_ms < 1
        assert (gain > 1) == (tiles_gain > 1)


def predicted_steps() -> list[tuple[float, float]]:
    """ms and one Mac's time over it, of each cell of the table of docs/several-macs.md."""
    steps = [
        predicted.predicted(cut, macs, tflops, partial(taken, link))
        for macs in (2, 4)
        for tflops in (9.2, 18.4, 66.0)
        for cut in CUTS
        for link in LINKS
    ]
    return [(step.step_ms or 0, step.speed_up or 0) for step in steps]


def taken(link: tuple[float, float], sent: float) -> float:
    """Seconds of a message."""
    latency, rate = link
    return latency + sent / rate
