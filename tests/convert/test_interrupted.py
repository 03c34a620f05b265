"""Interrupted, killed, out of disk: OUT is untouched, and the next run ends in the same bytes."""

import errno
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Packing, Sizes, published, quantise_folder, write_checkpoint
from converting import SIZES, SMALL_SHARD, contents, converted
from facts import raises

from mlx_diffgemma.convert import state
from mlx_diffgemma.convert.hashing import FileRecord, hash_file
from mlx_diffgemma.convert.run import Reports
from mlx_diffgemma.convert.state import Workspace, partial_folder, unfinished_shards
from mlx_diffgemma.convert.write import ShardWriter
from mlx_diffgemma.errors import ConvertError
from mlx_diffgemma.machine import locks

ROOT = Path(__file__).parents[2]


class Stopping:
    """A progress callback that raises after so many shards are whole."""

    def __init__(self, out: Path, shards: int, error: BaseException) -> None:
        self.out, self.shards, self.error = out, shards, error

    def __call__(self, done: int, total: int) -> None:
        if unfinished_shards(self.out) >= self.shards:
            raise self.error


def stop(source: Path, out: Path, shards: int, error: BaseException | None = None) -> None:
    error = error or KeyboardInterrupt()
    reports = Reports(Stopping(out, shards, error))
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - checked by identity
        converted(source, out, max_shard_bytes=SMALL_SHARD, reports=reports)
    assert caught.value is error


@pytest.fixture
def undisturbed(tmp_path: Path, source: Path) -> dict[str, str]:
    converted(source, tmp_path / "undisturbed", max_shard_bytes=SMALL_SHARD)
    return contents(tmp_path / "undisturbed")


def shards_of(files: dict[str, str]) -> int:
    return sum(name.endswith(".safetensors") for name in files)


# --- interrupted


@pytest.mark.parametrize("shards", [1, 3])
def test_the_next_run_goes_on(
    tmp_path: Path, source: Path, undisturbed: dict[str, str], shards: int
) -> None:
    out, notes = tmp_path / "out", list[str]()
    stop(source, out, shards)
    assert not out.exists()
    kept = {file.name for file in partial_folder(out).iterdir()}
    assert len(kept) == shards + 1
    assert "unfinished.json" in kept
    again = converted(source, out, max_shard_bytes=SMALL_SHARD, reports=Reports(note=notes.append))
    assert again.resumed_shards == shards
    assert len(notes) == 1
    assert contents(out) == undisturbed
    assert not partial_folder(out).exists()


def test_an_interruption_while_hashes_are_checked_keeps_all(
    tmp_path: Path, source: Path, monkeypatch: Any, undisturbed: dict[str, str]
) -> None:
    """Those not looked at yet are as good as they were."""
    out, looked_at = tmp_path / "out", list[Path]()
    stop(source, out, 3)
    before, whole = contents(partial_folder(out)), Workspace.open

    def interrupted(file: Path) -> FileRecord:
        looked_at.append(file)
        if len(looked_at) == 2:
            raise KeyboardInterrupt
        return hash_file(file)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "open", lambda self: whole(self, interrupted))
        with pytest.raises(KeyboardInterrupt):
            converted(source, out, max_shard_bytes=SMALL_SHARD)
    assert contents(partial_folder(out)) == before
    assert converted(source, out, max_shard_bytes=SMALL_SHARD).resumed_shards == 3
    assert contents(out) == undisturbed


def test_nothing_finished_leaves_nothing(tmp_path: Path, source: Path) -> None:
    stop(source, tmp_path / "out", 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source"]


def test_a_damaged_shard_is_made_again(
    tmp_path: Path, source: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    stop(source, out, 3)
    shard = sorted(partial_folder(out).glob("*.safetensors"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert converted(source, out, max_shard_bytes=SMALL_SHARD).resumed_shards == 2
    assert contents(out) == undisturbed


@pytest.mark.parametrize("change", ["source", "recipe", "state", "format"])
def test_shards_of_something_else_are_thrown_away(
    tmp_path: Path, source: Path, change: str
) -> None:
    """Another source of the same shapes, another recipe, or a state that is not readable."""
    out, quantize = tmp_path / "out", "4bit"
    stop(source, out, 3)
    if change == "source":
        shutil.rmtree(source)
        write_checkpoint(source, SIZES, dtype="bfloat16", tensors=None)
    elif change == "recipe":
        quantize = "6bit"
    else:
        content = "{" if change == "state" else '{"shards": {"model.safetensors": {"size": 5}}}'
        (partial_folder(out) / "unfinished.json").write_text(content)
    notes: list[str] = []
    result = converted(
        source, out, quantize, max_shard_bytes=SMALL_SHARD, reports=Reports(note=notes.append)
    )
    assert result.resumed_shards == 0
    assert sum("3 finished shards" in note for note in notes) == (change in ("source", "recipe"))
    converted(source, tmp_path / "fresh", quantize, max_shard_bytes=SMALL_SHARD)
    assert contents(out) == contents(tmp_path / "fresh")


def test_two_at_once_are_refused(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    refusals = []

    def second(done: int, total: int) -> None:
        if not refusals:
            with pytest.raises(ConvertError, match="another process is converting") as caught:
                converted(source, out)
            refusals.append(caught)

    converted(source, out, reports=Reports(second))
    assert len(refusals) == 1
    assert (out / "model.safetensors").exists()


def test_a_file_system_without_locks(tmp_path: Path, source: Path, monkeypatch: Any) -> None:
    """Some network shares know neither locks nor a sync of folders: no reason to refuse them."""

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            unsupported()
        sync(descriptor)

    monkeypatch.setattr(state.os, "fsync", fsync)
    converted(source, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").exists()


# --- links


def test_a_link_is_followed(tmp_path: Path, source: Path) -> None:
    """OUT may be a link to another disk, to a folder that is there or not: it stays a link."""
    link, real = tmp_path / "link", tmp_path / "disk/real"
    real.parent.mkdir()
    link.symlink_to(real)
    converted(source, link, "8bit")
    converted(source, link, "4bit", overwrite=True)
    converted(source, tmp_path / "fresh", "4bit")
    assert link.is_symlink()
    assert contents(real) == contents(tmp_path / "fresh")
    assert [file.name for file in real.parent.iterdir()] == ["real"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk", "fresh", "link", "source"]


def test_the_working_directory(tmp_path: Path, source: Path, monkeypatch: Any) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    result = converted(source, Path(), overwrite=True)
    assert result.file_bytes == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())


# --- replaced


@pytest.mark.parametrize("exchange", [True, False])
def test_out_is_replaced_when_the_new_one_is_whole(
    tmp_path: Path, source: Path, monkeypatch: Any, exchange: bool
) -> None:
    out = tmp_path / "out"
    converted(source, out, "8bit")
    old = contents(out)
    if not exchange:
        monkeypatch.setattr(state, "_swap", lambda a, b: False)
    seen = []
    stop_at_end = Reports(lambda done, total: seen.append(contents(out) == old))
    converted(source, out, "4bit", overwrite=True, reports=stop_at_end)
    assert all(seen)
    converted(source, tmp_path / "fresh", "4bit")
    assert contents(out) == contents(tmp_path / "fresh")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fresh", "out", "source"]


def test_an_interruption_leaves_the_old_one(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    converted(source, out, "8bit")
    old = contents(out)
    reports = Reports(Stopping(out, 2, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        converted(source, out, max_shard_bytes=SMALL_SHARD, overwrite=True, reports=reports)
    assert contents(out) == old


@pytest.mark.parametrize("exchange", [True, False])
def test_an_interruption_of_the_last_step(
    tmp_path: Path, source: Path, monkeypatch: Any, exchange: bool
) -> None:
    """Right after the new folder has taken its place: it stays, the old one goes."""
    out = tmp_path / "out"
    converted(source, out, "8bit")
    if not exchange:
        monkeypatch.setattr(state, "_swap", lambda a, b: False)
    sync, calls = state._sync_folder, []

    def interrupted(folder: Path) -> None:
        calls.append(folder)
        if folder == tmp_path:
            raise KeyboardInterrupt
        sync(folder)

    with monkeypatch.context() as patched:
        patched.setattr(state, "_sync_folder", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted(source, out, "4bit", overwrite=True)
    assert len(calls) == 2
    converted(source, tmp_path / "fresh", "4bit")
    assert contents(out) == contents(tmp_path / "fresh")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fresh", "out", "source"]


@pytest.mark.parametrize("replaced", [False, True])
def test_an_interruption_right_after_the_rename(
    tmp_path: Path, source: Path, monkeypatch: Any, replaced: bool
) -> None:
    """Before anything could note that OUT is there."""
    out = tmp_path / "out"
    if replaced:
        converted(source, out, "8bit")
    rename, swap = os.rename, state._swap

    def interrupted(a: Path, b: Path) -> None:
        rename(a, b)
        raise KeyboardInterrupt

    def interrupted_swap(a: Path, b: Path) -> bool:
        if swap(a, b):
            raise KeyboardInterrupt
        pytest.skip("no exchange on this file system")

    with monkeypatch.context() as patched:
        patched.setattr(state.os, "rename", interrupted)
        patched.setattr(state, "_swap", interrupted_swap)
        with pytest.raises(KeyboardInterrupt):
            converted(source, out, "4bit", overwrite=replaced)
    converted(source, tmp_path / "fresh", "4bit")
    assert contents(out) == contents(tmp_path / "fresh")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fresh", "out", "source"]


def test_killed_while_the_old_one_is_removed(
    tmp_path: Path, source: Path, monkeypatch: Any
) -> None:
    """Half of a folder that others wrote, without a manifest: it is not taken for the user's."""
    out, four = tmp_path / "out", Packing("affine", 4, 64)
    quantise_folder(source, out, four, published(four))

    class Killed(BaseException):
        pass

    def killed(*_: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(state.shutil, "rmtree", killed)
        with pytest.raises(Killed):
            converted(source, out, overwrite=True)
    assert partial_folder(out).is_dir()
    converted(source, out, "8bit", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "source"]


def test_an_interruption_between_two_renames(
    tmp_path: Path, source: Path, monkeypatch: Any
) -> None:
    """Where nothing can be exchanged, OUT is gone for a moment: it comes back."""
    out = tmp_path / "out"
    converted(source, out, "8bit")
    old, rename = contents(out), os.rename

    def interrupted(a: Path, b: Path) -> None:
        rename(a, b)
        if Path(a) == out:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(state, "_swap", lambda a, b: False)
        patched.setattr(state.os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted(source, out, "4bit", overwrite=True)
    assert contents(out) == old
    converted(source, out, "4bit", overwrite=True)
    converted(source, tmp_path / "fresh", "4bit")
    assert contents(out) == contents(tmp_path / "fresh")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fresh", "out", "source"]


def test_killed_right_after_the_rename(
    tmp_path: Path, source: Path, monkeypatch: Any, undisturbed: dict[str, str]
) -> None:
    """OUT is whole, with nothing of the conversion's own in it."""
    monkeypatch.setattr(Workspace, "_clear_up", lambda _: None)
    converted(source, tmp_path / "out", max_shard_bytes=SMALL_SHARD)
    assert contents(tmp_path / "out") == undisturbed


def test_a_rename_that_fails_keeps_the_shards(
    tmp_path: Path, source: Path, monkeypatch: Any, undisturbed: dict[str, str]
) -> None:
    count = shards_of(undisturbed)

    def refuse(old: Path, new: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(new))

    with monkeypatch.context() as patched:
        patched.setattr("mlx_diffgemma.convert.state.os.rename", refuse)
        with raises(ConvertError, f"Permission denied ... {count} of {count} shards are kept"):
            converted(source, tmp_path / "out", max_shard_bytes=SMALL_SHARD)
    result = converted(source, tmp_path / "out", max_shard_bytes=SMALL_SHARD)
    assert result.resumed_shards == result.shards
    assert contents(tmp_path / "out") == undisturbed


# --- full disks


@pytest.mark.parametrize("shards", [0, 2])
def test_a_full_disk_is_one_line(
    tmp_path: Path, source: Path, monkeypatch: Any, undisturbed: dict[str, str], shards: int
) -> None:
    out, append = tmp_path / "out", ShardWriter._append

    def full(self: ShardWriter, data: memoryview) -> None:
        if unfinished_shards(out) >= shards and self.written > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
        append(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "_append", full)
        with pytest.raises(ConvertError) as caught:
            converted(source, out, max_shard_bytes=SMALL_SHARD)
    message = str(caught.value)
    assert "\n" not in message
    assert "No space left on device" in message
    assert "make room" in message
    assert f"{shards} of " in message or shards == 0
    assert partial_folder(out).exists() == bool(shards)
    assert len(list(tmp_path.glob("out.partial/*.safetensors"))) == shards
    converted(source, out, max_shard_bytes=SMALL_SHARD)
    assert contents(out) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 80 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted: a full disk was not tried")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up(
    tmp_path: Path, source: Path, small_disk: Path, undisturbed: dict[str, str]
) -> None:
    """Something else takes the room after two shards."""
    out, filler = small_disk / "out", small_disk / "filler"

    def fill(done: int, total: int) -> None:
        if unfinished_shards(out) == 2 and not filler.exists():
            with filler.open("wb") as stream:
                stream.write(bytes(shutil.disk_usage(small_disk).free - 8192))

    kept = f"2 of {shards_of(undisturbed)} shards are kept"
    with raises(ConvertError, "No space left on device", kept):
        converted(source, out, max_shard_bytes=SMALL_SHARD, reports=Reports(fill))
    left = sorted(file.name for file in small_disk.rglob("*"))
    shards = [name for name in left if name.endswith(".safetensors")]
    assert left == ["filler", *shards, "out.partial", "unfinished.json"]
    assert len(shards) == 2
    filler.unlink()
    assert converted(source, out, max_shard_bytes=SMALL_SHARD).resumed_shards == 2
    assert contents(out) == undisturbed


# --- killed

# A conversion in a process of its own, slow enough to be killed anywhere; says when it begins.
CHILD = """
import sys, time
from pathlib import Path
from mlx_diffgemma.convert.plan import make_plan
from mlx_diffgemma.convert.quantize import RecipeOptions, make_recipe
from mlx_diffgemma.convert.read import open_checkpoint
from mlx_diffgemma.convert.run import Reports, convert
source, out, shard_bytes, pause = sys.argv[1:]
plan = make_plan(open_checkpoint(Path(source)), make_recipe(RecipeOptions()),
                 max_shard_bytes=int(shard_bytes))
print("BEGIN", flush=True)
convert(plan, Path(out), reports=Reports(lambda done, total: time.sleep(float(pause))))
print("END", flush=True)
"""


def child(source: Path, out: Path, pause: float) -> subprocess.Popen[str]:
    arguments = [str(source), str(out), str(SMALL_SHARD), str(pause)]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "BEGIN\n"
    return process


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    """kill -9, again and again into the same folder, then one run to the end: the same bytes."""
    sizes = Sizes("sfsfsf", hidden_size=64, moe_intermediate_size=64, head_dim=16, vision=True)
    source = write_checkpoint(tmp_path / "source", sizes, dtype="bfloat16", shards=3)
    began = time.perf_counter()
    with child(source, tmp_path / "undisturbed", 0.005) as process:
        assert process.wait() == 0
    whole = time.perf_counter() - began
    expected, out = contents(tmp_path / "undisturbed"), tmp_path / "out"
    moments, kept = random.Random(7), []
    while len(kept) < 10:
        with child(source, out, 0.005) as process:
            time.sleep(moments.uniform(0, 0.5 * whole))
            process.send_signal(signal.SIGKILL)
        if out.exists():  # it was faster: from the beginning again
            assert contents(out) == expected
            shutil.rmtree(out)
            continue
        kept.append(unfinished_shards(out))
    with child(source, out, 0) as process:
        assert process.wait() == 0
    assert contents(out) == expected
    assert max(kept) > 0


def test_a_state_file_says_what_is_whole(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    stop(source, out, 2)
    content = json.loads((partial_folder(out) / "unfinished.json").read_text())
    assert set(content) == {"fingerprint", "shards", "sources"}
    assert len(content["shards"]) == 2
