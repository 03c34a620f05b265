"""Lets the tests here import the helpers beside them, and prints the largest differences seen."""

import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

import compare  # noqa: E402


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if compare.LARGEST:
        terminalreporter.section("largest differences from the reference")
    for what, (largest, tolerance) in sorted(compare.LARGEST.items()):
        terminalreporter.write_line(f"{what}: {largest:.2e} (tolerance {tolerance:.1e})")
