"""The tables of docs/several-macs.md are those of its script."""

import sys

import pytest
from pages import ROOT

SCRIPTS = str(ROOT / "scripts")
if SCRIPTS not in sys.path:
    sys.path.append(SCRIPTS)

import make_share_table  # noqa: E402

PAGE = (ROOT / "docs" / "several-macs.md").read_text(encoding="utf-8")


def test_times_are_predicted_ones() -> None:
    assert "\n".join(make_share_table.steps_table()) in PAGE
    assert "\n".join(make_share_table.prompts_table()) in PAGE


@pytest.mark.slow
def test_needs_are_those_that_info_has() -> None:
    assert "\n".join(make_share_table.needs_table()) in PAGE
