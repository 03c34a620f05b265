"""Saved states: whole or not there, found again, refused where they are another run's."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from facts import assert_says, raises
from training_runs import losses, run, run_small, same, small

from mlx_diffgemma.checkpoint.adapter import open_adapter
from mlx_diffgemma.errors import TrainingError
from mlx_diffgemma.finetune import state
from mlx_diffgemma.finetune.recipe import Recipe
from mlx_diffgemma.finetune.state import Keeper, State

VALUES = {"a": mx.array([[1.0, 2.0]]), "b": mx.array([3.0])}
MOMENTS = {"a/m": mx.array([[0.1, 0.2]]), "b/m": mx.array([0.3])}


def at(step: int, **more: Any) -> State:
    return State(step, {n: v * step for n, v in VALUES.items()}, MOMENTS, **more)


def saved(out: Path, *steps: int, **identity: Any) -> Path:
    """A run's folder with states of these steps and a line for each step."""
    keeper = Keeper(out, identity)
    assert keeper.open() is None
    for step in range(1, max(steps, default=0) + 1):
        keeper.log({"step": step})
        if step in steps:
            keeper.save(at(step))
    keeper.close()
    return out


def resumed(out: Path, **identity: Any) -> tuple[State | None, Keeper]:
    keeper = Keeper(out, identity)
    found = keeper.open(resume=True)
    keeper.close()
    return found, keeper


# --- saved and found again


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    before = at(3, average={"a": mx.array([[7.0, 1e-30]])}, best_step=3, score=0.1, lowest=1e-9)
    keeper = Keeper(tmp_path / "out")
    keeper.open()
    keeper.save(before)
    keeper.close()
    found, _ = resumed(tmp_path / "out")
    assert found
    assert same(found.arrays, before.arrays)
    assert found.numbers == before.numbers


def test_the_last_two_stay_and_the_best(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "out")
    keeper.open()
    for step in range(1, 6):
        keeper.save(at(step, best_step=2))
    keeper.close()
    assert keeper.steps() == [2, 4, 5]


def test_lines_of_later_steps_are_cut(tmp_path: Path) -> None:
    out = saved(tmp_path / "out", 2)
    lines = out / "metrics.jsonl"
    lines.write_bytes(lines.read_bytes() + b'{"step": 3}\n{"step": 4}\n{"st')
    resumed(out)
    assert [json.loads(line)["step"] for line in lines.read_text().splitlines()] == [1, 2]


def test_weights_lie_beside_each_state_and_in_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    training = run_small(out, Recipe(steps=2, lr=0.1, save_every=1))
    losses(training)
    last, ended = (open_adapter(at, small().folder).load() for at in (out / "states/000002", out))
    assert same(last, ended)
    assert not same(ended, open_adapter(out / "states/000001", small().folder).load())
    assert list(ended) != []


# --- broken


def truncate(folder: Path) -> None:
    file = folder / "training.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def change(folder: Path) -> None:
    file = folder / "training.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def empty(folder: Path) -> None:
    (folder / "state.json").write_text("{}")


def mistake(folder: Path) -> None:
    (folder / "state.json").write_text("5")


def renumber(folder: Path) -> None:
    file = folder / "state.json"
    file.write_text(file.read_text().replace('"step": 4', '"step": 7'))


def strip(folder: Path) -> None:
    (folder / "training.safetensors").unlink()


@pytest.mark.parametrize("damage", [truncate, change, empty, mistake, renumber, strip])
def test_a_broken_state_gives_way_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    out = saved(tmp_path / "out", 2, 4)
    damage(out / "states/000004")
    found, keeper = resumed(out)
    assert found
    assert found.step == 2
    assert_says(keeper.notes[0], "step 4 is broken")
    assert_says(keeper.notes[1], "step 2")
    keeper.save(at(4))  # in the place of the broken one
    assert resumed(out)[0].step == 4  # type: ignore[union-attr]


def test_no_whole_state_begins_again(tmp_path: Path) -> None:
    out = saved(tmp_path / "out", 2)
    truncate(out / "states/000002")
    found, keeper = resumed(out)
    assert found is None
    assert_says(keeper.notes[-1], "no whole state")
    assert (keeper.steps(), (out / "metrics.jsonl").exists()) == ([], False)


def test_a_half_written_state_is_none(tmp_path: Path) -> None:
    """kill -9 leaves the folder that a state grows in."""
    out = saved(tmp_path / "out", 2)
    (out / "states/.000004.1234abcd.part").mkdir()
    found, _ = resumed(out)
    assert found
    assert [each.name for each in (out / "states").iterdir()] == ["000002"]


@pytest.mark.parametrize("name", ["write_arrays", "replace_file"])
def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(file: Path, *content: object) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    out = saved(tmp_path / "out", 2)
    keeper = Keeper(out)
    keeper.open(resume=True)
    monkeypatch.setattr(state, name, full)
    with raises(TrainingError, "No space left ... step 2 ... make room ... --resume"):
        keeper.save(at(4))
    keeper.close()
    assert [each.name for each in (out / "states").iterdir()] == ["000002"]
    monkeypatch.undo()
    assert resumed(out)[0].step == 2  # type: ignore[union-attr]


def test_arrays_that_the_disk_does_not_take_are_an_error() -> None:
    """mx.save_safetensors leaves a part of the file and says nothing."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full: a full disk is not tried")
    with pytest.raises(OSError, match="No space left"):
        state.write_arrays(Path("/dev/full"), VALUES)


# --- another's


def test_a_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = saved(tmp_path / "out", 2)
    with raises(TrainingError, f"{out} ... --resume ... --overwrite"):
        Keeper(out).open()
    keeper = Keeper(out)
    assert keeper.open(overwrite=True) is None
    keeper.close()
    assert keeper.steps() == []


def test_nothing_of_a_replaced_run_stays_but_what_is_not_its_own(tmp_path: Path) -> None:
    losses(run_small(tmp_path, Recipe(steps=1)))
    (tmp_path / "letter.txt").write_text("Dear")
    keeper = Keeper(tmp_path)
    keeper.open(overwrite=True)
    keeper.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["letter.txt", "run.json"]


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
def test_a_foreign_folder_is_left_alone(tmp_path: Path, more: dict[str, bool]) -> None:
    (tmp_path / "letter.txt").write_text("Dear")
    with raises(TrainingError, f"{tmp_path} is no folder of a training run"):
        Keeper(tmp_path).open(**more)
    with raises(TrainingError, "letter.txt is a file"):
        Keeper(tmp_path / "letter.txt").open(**more)
    assert [each.name for each in tmp_path.iterdir()] == ["letter.txt"]


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    out = saved(tmp_path / "out", 2, lr=0.1, seed=0, data="5 examples, ab12")
    with raises(TrainingError, "another run: lr was 0.1 and is 0.2 ... resume"):
        resumed(out, lr=0.2, seed=0, data="5 examples, ab12")
    with raises(TrainingError, "data was '5 examples, ab12' and is '6 examples, cd34'"):
        resumed(out, lr=0.1, seed=0, data="6 examples, cd34")
    assert resumed(out, lr=0.1, seed=0, data="5 examples, ab12")[0]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"seed": 0, "seed": 0}', b"\xff"])
def test_a_run_that_does_not_say_which_it_is(tmp_path: Path, content: bytes) -> None:
    out = saved(tmp_path / "out", 2)
    (out / "run.json").write_bytes(content)
    with raises(TrainingError, f"{out / 'run.json'} ... --overwrite"):
        resumed(out)
    assert (out / "states/000002").is_dir()


def test_many_differences_are_counted(tmp_path: Path) -> None:
    out = saved(tmp_path / "out", **dict.fromkeys("abcde", 1))
    with raises(TrainingError, "a was 1 and is None, b ... c ... 2 more differences"):
        resumed(out)


def test_nothing_to_resume_begins_and_says_so(tmp_path: Path) -> None:
    found, keeper = resumed(tmp_path / "deep" / "out")
    assert found is None
    assert_says(keeper.notes[0], "no training run to resume")
    assert (tmp_path / "deep/out/run.json").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = run(tmp_path / "out")
    with raises(TrainingError, "another process"):
        Keeper(tmp_path / "out", {"seed": 0}).open(resume=True)
    assert first.keeper
    first.keeper.close()
    resumed(tmp_path / "out", seed=0)
