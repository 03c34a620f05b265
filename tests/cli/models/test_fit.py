"""The question before a download: what it says of memory, beside what `info` and loading say."""

from pathlib import Path

import pytest
from checkpoints import Sizes, edit_json, write_checkpoint
from facts import assert_says, raises
from repository import REPO, refused, serve

from mlx_diffgemma.checkpoint.download import Download
from mlx_diffgemma.cli.models import fit
from mlx_diffgemma.cli.models.fit import describe
from mlx_diffgemma.errors import CheckpointError
from mlx_diffgemma.model import matrices, memory, weighing
from mlx_diffgemma.model.memory import MemoryPlan, fit_check, plan_memory

SIZES = Sizes("sf", vision=True)
DOWNLOAD = Download(REPO, num_bytes=15_600_000_000, free_bytes=10**11)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "there", SIZES, dtype="bfloat16")


@pytest.fixture
def plan(folder: Path) -> MemoryPlan:
    return plan_memory(folder)


def memory_line(plan: MemoryPlan | None, available: int | None) -> tuple[str, bool]:
    lines, fits = describe(DOWNLOAD, plan, available, None)
    assert_says(lines[0], REPO, "not on this machine")
    assert_says(lines[1], "15.60 GB ... 100.00 GB")
    return " ".join(lines[2:]), fits


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_the_same_is_planned_before_and_after_a_download(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str | None, gpu: bool
) -> None:
    """Bug: the question counted the vision tower and all bytes as stored: a 24 GB Mac was told that
    what fits does not."""
    for user in (matrices, weighing):
        monkeypatch.setattr(user, "on_gpu", lambda: gpu)
    serve(monkeypatch, folder)
    planned = fit.planned(DOWNLOAD, dtype)  # type: ignore[arg-type]
    assert planned == plan_memory(folder, dtype)


def test_the_question_and_the_refusal_draw_one_line(
    folder: Path, plan: MemoryPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits to the byte for one canvas is not refused after the download; a byte less is."""
    canvas = plan.config.canvas_length
    room = plan.footprint(canvas, None).needed_bytes
    for available, fits in ((room, True), (room - 1, False)):
        said, verdict = memory_line(plan, available)
        assert verdict is fits
        assert ("DOES NOT FIT" in said) is not fits
        monkeypatch.setattr(memory, "available_memory", lambda: available)  # noqa: B023
        if fits:
            fit_check(folder)(canvas)
            assert_says(said, f"context of {plan.largest_context(available):,}")
        else:
            with raises(memory.FitError, "1.00 GB"):
                fit_check(folder)(canvas)


def test_a_machine_that_does_not_say_what_it_has(plan: MemoryPlan) -> None:
    said, verdict = memory_line(plan, None)
    assert verdict
    assert_says(said, "1.00 GB")


def test_a_mac_is_told_the_setting_that_would_do(
    plan: MemoryPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "raised_limit", lambda needed: 1024)
    said, _ = memory_line(plan, 1000)
    assert_says(said, "DOES NOT FIT ... `sudo sysctl iogpu.wired_limit_mb=1024`")
    assert "sysctl" not in memory_line(plan, 10**12)[0]


# --- without headers


@pytest.mark.parametrize(
    ("available", "verdict", "fits"),
    [(48, "fits", True), (10, "MAY NOT FIT", False), (None, "16.60 GB", True)],
)
def test_sizes_alone_are_an_upper_bound(
    monkeypatch: pytest.MonkeyPatch, available: int | None, verdict: str, fits: bool
) -> None:
    monkeypatch.setattr(fit, "on_gpu", lambda: True)
    said, verdict_there = memory_line(None, available and available * 10**9)
    assert verdict_there is fits
    assert_says(said, "at most 16.60 GB ... size of its files")
    assert verdict in said


@pytest.mark.parametrize(("gpu", "dtype"), [(False, None), (True, "float32")])
def test_an_upper_bound_allows_for_widening(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, dtype: str | None
) -> None:
    monkeypatch.setattr(fit, "on_gpu", lambda: gpu)
    lines, fits = describe(DOWNLOAD, None, 30 * 10**9, dtype)  # type: ignore[arg-type]
    assert_says(lines[-1], "at most 32.20 GB")
    assert not fits


def test_headers_that_cannot_be_had_leave_the_sizes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, folder, {"headers": refused("OfflineModeIsEnabled")})
    assert fit.planned(DOWNLOAD, None) is None


def test_what_would_not_load_is_refused_before_it_is_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_json(folder / "config.json", model_type="gemma4")
    serve(monkeypatch, folder)
    with raises(CheckpointError, "owner/model/config.json ... 'gemma4'"):
        fit.planned(DOWNLOAD, None)
