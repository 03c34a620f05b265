"""Prints the largest differences seen."""

from collections.abc import Iterator

import pytest
from compare import RECORD


@pytest.fixture(autouse=True)
def recorded() -> Iterator[None]:
    RECORD.on = True
    yield
    RECORD.on = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RECORD.largest:
        terminalreporter.section("largest differences from the reference")
    for what, (difference, tolerance, test) in sorted(RECORD.largest.items()):
        terminalreporter.write_line(f"{what}: {difference:.2e} of {tolerance:.1e}, {test}")
