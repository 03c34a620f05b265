"""Fixtures of the tests of several Macs."""

import pytest
from rank_tasks import SLICED, SLICES


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small vocabularies are cut, too, in this process as in ranks with `slices`."""
    for module in SLICED:
        monkeypatch.setattr(module, "SLICE", SLICES)
