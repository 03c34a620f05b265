"""What Macs agree on before they load, with one of them played here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from facts import raises

from mlx_diffgemma.checkpoint.hub import Source
from mlx_diffgemma.cli.answer.loading import find_checked
from mlx_diffgemma.cli.errors import ArgumentError
from mlx_diffgemma.cli.macs import agreed as module
from mlx_diffgemma.cli.macs.agreed import Found, agreed
from mlx_diffgemma.cli.macs.group import Group
from mlx_diffgemma.cli.macs.options import Asked
from mlx_diffgemma.cli.options import ModelOptions
from mlx_diffgemma.errors import CheckpointError, FitError, ShareError
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.share.guard import FACT_BYTES
from mlx_diffgemma.share.share import Share

OPTIONS = ModelOptions(model="tiny-sudoku")
SETTINGS = Settings(seed=1)
TWO = Share(0, 2, hosts=("mac-a", "mac-b"))
Told = dict[str, Any]


@pytest.fixture(scope="module")
def source() -> Source:
    return find_checked(OPTIONS, SETTINGS, None)


@pytest.fixture
def ask(source: Source, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Agrees with a Mac that has what this one has, but for what `other` makes of it."""

    def run(other: Callable[[Told], Told], asked: Asked = "auto", share: Share = TWO) -> str:
        def told_by_all(_: Share, told: Mapping[str, Any]) -> list[Told]:
            return [dict(told), *[other(dict(told))] * (share.size - 1)]

        monkeypatch.setattr(module, "told_by_all", told_by_all)
        found = Found(source, None, OPTIONS, SETTINGS)
        return agreed(Group(share, asked), lambda: found, {})[1]

    return run


def poorer(told: Told, available: int, **room: Any) -> Told:
    return {**told, "room": {**told["room"], "available": available, **room}}


def between(told: Told, cut: str) -> int:
    """More than a cut needs, and less than the whole model."""
    needs = told["room"]["needs"]
    return int(needs["rows"] + needs[cut]) // 2


def test_rows_are_taken_without_a_word(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(lambda told: told) == "rows"
    assert capsys.readouterr().err == ""


def test_another_cut_is_explained_in_a_line(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(lambda told: poorer(told, between(told, "layers"))) == "layers"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("shared by layers: rank 1 (mac-b) does not hold the whole model")


def test_a_mac_that_is_short_of_its_part_is_named(ask: Any) -> None:
    with raises(FitError, "rank 1 (mac-b) ... 1.0 MB ... tensor ... --force"):
        ask(lambda told: poorer(told, 1_000_000), "tensor")


def test_tensors_are_cut_for_few(ask: Any) -> None:
    with raises(ArgumentError, "7 Macs share by tensor ... at most"):
        ask(lambda told: told, "tensor", replace(TWO, size=7))


def test_unequal_facts_come_before_memory(ask: Any) -> None:
    def other(told: Told) -> Told:
        return {**poorer(told, 1), "facts": {**told["facts"], "mlx": "0.1"}}

    with raises(ShareError, "rank 1 (mac-b) ... mlx ... 0.1 ... rank 0 (mac-a)"):
        ask(other)


def test_a_long_error_of_one_mac_fits_among_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters beyond ASCII take up to 12 bytes each: all are told of it, and none ends of it."""
    told: list[Told] = []

    def told_by_all(_: Share, mine: Mapping[str, Any]) -> list[Told]:
        assert len(json.dumps(mine).encode()) < FACT_BYTES
        told.append(dict(mine))
        return told

    def find() -> Found:
        raise CheckpointError("\U0001d53e" * 3000)

    monkeypatch.setattr(module, "told_by_all", told_by_all)
    with pytest.raises(CheckpointError):
        agreed(Group(TWO, "auto"), find, {})
    assert set(told[0]) == {"error"}
