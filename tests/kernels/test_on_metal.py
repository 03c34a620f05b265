"""On a Mac: every check of the selftest, and a generation with the kernels on and off."""

import warnings

import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.errors import KernelWarning
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.selftest import References, findings, plan
from mlx_diffgemma.machine.memory import available_memory
from mlx_diffgemma.model import experts, soft_gather

pytestmark = pytest.mark.metal

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


def test_every_check_of_the_selftest_passes() -> None:
    references = References(
        experts=experts, denoise=sampler, classes=classes, soft_gather=soft_gather
    )
    planned = plan(references, (available_memory() or 0) // 2)
    assert planned.checks
    failed = [finding for finding in findings(planned.checks) if finding.failed]
    assert failed == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_kernels_give_the_tokens_of_their_references(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: dict[str, dg.Reply] = {}
    for mode in ("off", "on"):
        monkeypatch.setenv(dispatch.VARIABLE, mode)
        dispatch.forget()
        replies[mode] = dg.load("tiny-sudoku").ask(PUZZLE, settings=dg.Settings(seed=seed))
    assert [replies[mode].kernels for mode in ("off", "on")] == ["ops", "metal"]
    assert replies["on"].token_ids == replies["off"].token_ids


@pytest.mark.parametrize("mode", ["auto", "check"])
def test_a_trial_on_this_machine_ends_in_an_answer(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whoever wins here: slower kernels are no failure, wrong ones and errors are."""
    monkeypatch.setenv(dispatch.VARIABLE, mode)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    dispatch.forget()
    session = dg.load("tiny-sudoku")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KernelWarning)
        reply = session.ask(PUZZLE, settings=dg.Settings(seed=1))
    assert reply.text
    outcomes = {str(verdict.outcome) for verdict in dispatch.known.verdicts.values()}
    assert outcomes
    assert outcomes <= {"faster", "slower"}
