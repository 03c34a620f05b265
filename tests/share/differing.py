"""Ranks that differ, one after the other in one fact: what each of them says of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import typer

from mlx_diffgemma.cli.answer.loading import find_checked
from mlx_diffgemma.cli.macs import choose
from mlx_diffgemma.cli.macs.agreed import Found, agreed
from mlx_diffgemma.cli.macs.group import Group
from mlx_diffgemma.cli.options import ModelOptions
from mlx_diffgemma.conversation import agreement
from mlx_diffgemma.conversation.loading import load
from mlx_diffgemma.errors import FitError, ShareError
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.share.guard import require_equal_work
from mlx_diffgemma.share.part import CUTS, Cut
from mlx_diffgemma.share.share import Share


def refused(run: Callable[[], Any]) -> str:
    """The error of what has to fail; the exit code of a rank that leaves the word to rank 0."""
    try:
        run()
    except (ShareError, FitError) as error:
        return str(error)
    except typer.Exit as end:
        return str(end.exit_code)
    raise AssertionError("nothing was refused")


def of_another_version(distribution: str) -> str:
    """As `importlib.metadata.version`, on a Mac with another MLX."""
    return "0.1" if distribution == "mlx" else "2.0"


def unlike_loads(other: str) -> dict[str, tuple[AbstractContextManager[Any], dict[str, Any]]]:
    """What is other where a rank loads: a patch, and options, by the fact it has to be told as."""
    return {
        "mlx ": (patch.object(agreement, "version", of_another_version), {}),
        "mlx-diffgemma": (patch.object(agreement, "__version__", "0.0.1"), {}),
        "the weights": (nullcontext(), {"model": other}),
        "the dtype": (nullcontext(), {"dtype": mx.bfloat16}),
        "the cut": (nullcontext(), {"cut": "layers"}),
    }


def differing(share: Share, other: str) -> dict[str, list[str]]:
    """What this rank says where each rank in turn has something other, by the fact.

    other: a copy of tiny-sudoku with other weights.
    """
    found: dict[str, list[str]] = {}
    for at in range(share.size):
        mine = share.rank == at
        for fact, (patched, options) in unlike_loads(other).items():
            given = {"model": "tiny-sudoku", "share": share, "cut": "rows"}
            given |= options if mine else {}
            with patched if mine else nullcontext():
                said = refused(lambda given=given: load(**given))  # type: ignore[misc]
            found.setdefault(fact, []).append(said)
        for cut in CUTS:
            said = refused(lambda cut=cut, mine=mine: fitting(share, cut, short=mine))  # type: ignore[misc]
            found.setdefault(f"can give 1.0 kB, its share ({cut})", []).append(said)
        said = refused(lambda mine=mine: in_order(share, turned=mine))  # type: ignore[misc]
        found.setdefault("other calls", []).append(said)
    found["another seed"] = [*unlike_turns(share)]
    return found


def fitting(share: Share, cut: Cut, *, short: bool) -> None:
    """Agree as a command does; short: on a Mac that gives 1,000 bytes."""

    def find() -> Found:
        options, settings = ModelOptions(model="tiny-sudoku"), Settings()
        return Found(find_checked(options, settings), None, options, settings)

    with patch.object(choose, "available_memory", lambda: 1000) if short else nullcontext():
        agreed(Group(share, cut), find, {})


def in_order(share: Share, *, turned: bool) -> None:
    """Two messages of one shape, turned round on one rank: the numbers are wrong, no exception."""
    apart = replace(share, calls=share.calls.copy(), order=[0])
    names = ["keys and values", "outcome"]
    for name in reversed(names) if turned else names:
        mx.eval(apart.sum(mx.ones((4,)), name))
    require_equal_work(apart, [1, 2])


def unlike_turns(share: Share) -> list[str]:
    """A session in which each rank in turn gives a turn another seed."""
    session = load("tiny-sudoku", share=share, cut="rows")
    puzzle = "." * 80 + "1"
    return [
        refused(lambda at=at: session.ask(puzzle, seed=int(share.rank == at)))  # type: ignore[misc]
        for at in range(share.size)
    ]
