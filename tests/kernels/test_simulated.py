"""Dispatcher and selftest over the package's own kernels, run by the simulator in Metal's place."""

import json
from collections.abc import Iterator

import pytest
from metal_sim import simulated
from typer.testing import CliRunner

import mlx_diffgemma as dg
from mlx_diffgemma.cli.app import app
from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.kernels import dispatch, timing
from mlx_diffgemma.kernels.check import Check
from mlx_diffgemma.kernels.selftest import References, findings
from mlx_diffgemma.model import experts, soft_gather

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv(dispatch.VARIABLE, "auto")


def solved() -> dg.Reply:
    return dg.load("tiny-sudoku").ask(PUZZLE, settings=dg.Settings(seed=1))


def small() -> Iterator[Check]:
    references = References(
        experts=experts, denoise=sampler, classes=classes, soft_gather=soft_gather
    )
    return (check for check in references.checks() if check.size == "small")


@pytest.mark.slow
def test_kernels_that_win_their_trial_run_and_change_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = solved()
    monkeypatch.setattr(timing, "wins", lambda kernel_seconds, reference_seconds: True)
    with simulated():
        fast = solved()
    assert (plain.kernels, fast.kernels) == ("ops", "metal")
    assert fast.token_ids == plain.token_ids
    assert {verdict.outcome for verdict in dispatch.known.verdicts.values()} == {"faster"}


@pytest.mark.slow
def test_kernels_that_lose_are_right_and_stay_unused() -> None:
    with simulated():
        reply = solved()  # warnings are errors
    assert reply.kernels == "ops"
    assert {verdict.outcome for verdict in dispatch.known.verdicts.values()} == {"slower"}
    families = {family for _, family, _ in dispatch.known.verdicts}
    assert {line.partition(":")[0] for line in dispatch.unused()} == families


def test_the_command_finds_every_kernel_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first small check of each kernel; all of them in the slow test below."""
    firsts = {check.kernel: check for check in reversed(list(small()))}
    monkeypatch.setattr(References, "checks", lambda self: iter(firsts.values()))
    with simulated():
        done = CliRunner().invoke(app, ["selftest", "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["metal"], found["finished"]) == (0, True, len(firsts))
    assert all(check["kernel_ms"] and check["twin_ms"] for check in found["checks"])


@pytest.mark.slow  # every instantiation is compiled
def test_every_small_check_of_the_selftest_passes() -> None:
    with simulated():
        failed = [finding for finding in findings(list(small())) if finding.failed]
    assert failed == []
