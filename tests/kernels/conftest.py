"""Fixtures of the kernels' tests."""

from collections.abc import Iterator

import pytest

from mlx_diffgemma.kernels import dispatch


@pytest.fixture(autouse=True)
def nothing_said_yet() -> Iterator[None]:
    """No verdict and no choice of another test counts in this one."""
    dispatch.forget()
    yield
    dispatch.forget()


@pytest.fixture
def kernels_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run where they can, whatever a trial would say."""
    monkeypatch.setenv(dispatch.VARIABLE, "on")
