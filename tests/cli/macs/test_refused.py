"""What several Macs cannot do together: one line each, before anything is started or loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from puzzle import PUZZLE, SOLVE, assert_one_line

TINY = ("--model", "tiny-sudoku")


@pytest.fixture
def as_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of rank 0 of two, whose other one never comes."""
    file = tmp_path / "ring.json"
    file.write_text(json.dumps([["127.0.0.1:1"], ["127.0.0.1:2"]]))
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("MLX_HOSTFILE", str(file))


@pytest.mark.parametrize("share", ["rows", "layers", "tensor", "auto"])
@pytest.mark.parametrize("command", ["generate", "fill"])
def test_a_share_without_a_group(run: Any, command: str, share: str) -> None:
    done = run(command, PUZZLE, *TINY, "--share", share)
    assert_one_line(done, 2, f"--share {share} ... one process ... --macs ... mlx.launch")


def test_an_unknown_share(run: Any) -> None:
    assert_one_line(run(*SOLVE, "--share", "columns"), 2, "--share ... columns")


@pytest.mark.parametrize("argv", [[], ["-"], ["-", "behind it"]])
@pytest.mark.parametrize("command", ["generate", "fill"])
def test_standard_input(run: Any, hosts: Path, command: str, argv: list[str]) -> None:
    done = run(command, *argv, *TINY, "--macs", hosts, input=PUZZLE)
    assert_one_line(done, 2, "standard input ... several Macs ... argument ... file")


def test_an_image_from_standard_input(run: Any, hosts: Path) -> None:
    done = run("generate", *TINY, "--image", "-", "--macs", hosts)
    assert_one_line(done, 2, "standard input ... several Macs")


def test_a_form_or_a_calibration_that_is_none(
    run: Any, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank would say it."""
    monkeypatch.setattr("mlx_diffgemma.cli.macs.launch.Ranks", None)
    done = run("generate", "x", *TINY, "--pattern", "[", "--macs", hosts)
    assert_one_line(done, 2, "regular expression '[' ... not closed")
    done = run("decide", "x", *TINY, "--noul", "a=?", "--calibration", hosts, "--macs", hosts)
    assert_one_line(done, 1, "no calibration")


@pytest.mark.usefixtures("as_rank")
def test_an_image_alone_asks(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read behind it where nothing waits: a rank's standard input never ends."""
    monkeypatch.setenv("MLX_RANK", "7")
    done = run("generate", *TINY, "--image", "x.png", "--share", "rows")
    assert_one_line(done, 1, "MLX_RANK is '7'")


@pytest.mark.parametrize("mode", ["ar", "auto"])
def test_another_mode(run: Any, hosts: Path, mode: str) -> None:
    given = ("--mode", mode, "--share", "rows", "--macs", hosts)
    done = run("generate", "x", "--model", "tiny-chat", *given)
    assert_one_line(done, 2, f"--mode is {mode} ... diffusion")


@pytest.mark.usefixtures("as_rank")
def test_a_chat_in_a_group(run: Any) -> None:
    assert_one_line(run("chat", "--model", "tiny-chat"), 2, "chat ... mlx.launch ... generate")


def test_a_link_test_without_a_group(run: Any) -> None:
    done = run("selftest", "--link")
    assert_one_line(done, 2, "selftest --link ... one process ... --macs ... mlx.launch")


def test_a_kernel_test_with_a_hostfile(run: Any, hosts: Path) -> None:
    assert_one_line(run("selftest", "--macs", hosts), 2, "--macs ... --link")


def test_a_rank_without_its_hosts(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.delenv("MLX_HOSTFILE", raising=False)
    assert_one_line(run(*SOLVE, "--share", "rows"), 1, "MLX_RANK ... MLX_HOSTFILE ... mlx.launch")


@pytest.mark.usefixtures("as_rank")
@pytest.mark.parametrize("said", ["0", "-1", "nan", "inf", "soon"])
def test_no_time_to_wait(run: Any, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("MLX_DIFFGEMMA_LINK_SECONDS", said)
    done = run(*SOLVE, "--share", "rows")
    assert_one_line(done, 2, f"MLX_DIFFGEMMA_LINK_SECONDS ... '{said}' ... above 0")


def test_no_time_to_wait_is_found_before_ranks_are_started(
    run: Any, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would say it."""
    monkeypatch.setenv("MLX_DIFFGEMMA_LINK_SECONDS", "soon")
    monkeypatch.setattr("mlx_diffgemma.cli.macs.launch.Ranks", None)
    assert_one_line(run(*SOLVE, "--macs", hosts), 2, "MLX_DIFFGEMMA_LINK_SECONDS ... 'soon'")


@pytest.mark.usefixtures("as_rank")
def test_a_model_that_does_not_fit_names_the_share(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --share each process of a group holds all of a model."""
    monkeypatch.setattr("mlx_diffgemma.model.memory.available_memory", lambda: 1000)
    assert_one_line(run(*SOLVE), 1, "1.0 kB ... --share layers")


@pytest.mark.parametrize("macs", [0, 1, 91])
def test_macs_that_are_no_number_of_macs(run: Any, macs: int) -> None:
    assert_one_line(run("info", "tiny-sudoku", "--macs", macs), 2, f"--macs is {macs} ... 2 to 90")
