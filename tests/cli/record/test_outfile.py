"""The one rule for files that a command writes: what they may replace, in every command."""

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from facts import raises
from puzzle import PUZZLE, SOLUTION, SOLVE, assert_one_line

from mlx_diffgemma.cli.errors import ArgumentError, FileError
from mlx_diffgemma.cli.record.outfile import (
    STDOUT,
    Kind,
    Taken,
    Wanted,
    is_standard_output,
    open_files,
)
from mlx_diffgemma.machine import files

NOTE = Kind("note", lambda file: file.read_bytes().startswith(b"note"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def put(file: Path, *taken: Taken, overwrite: bool = False) -> None:
    with open_files([Wanted("--out", file, NOTE)], taken, overwrite=overwrite) as (out,):
        assert out is not None
        out.write(b"note: new")
        out.finish()


# --- its own kind, or an empty file


@pytest.mark.parametrize("before", [None, "", "note: old"])
def test_a_new_name_an_empty_file_and_one_of_its_kind_are_taken(
    file: Path, before: str | None
) -> None:
    if before is not None:
        file.write_text(before)
    put(file)
    assert file.read_text() == "note: new"


def test_another_file_stays_without_overwrite(file: Path) -> None:
    file.write_text("precious")
    with raises(FileError, file, "note", "--overwrite"):
        put(file)
    assert file.read_text() == "precious"
    put(file, overwrite=True)
    assert file.read_text() == "note: new"


def test_the_old_content_stays_where_the_work_fails(file: Path) -> None:
    file.write_text("note: old")
    wanted = [Wanted("--out", file, NOTE)]
    with suppress(KeyboardInterrupt), open_files(wanted) as (out,):
        assert out is not None
        out.write(b"note: new")
        raise KeyboardInterrupt
    assert file.read_text() == "note: old"
    assert list(file.parent.iterdir()) == [file]


# --- nothing that is read


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_written(file: Path, tmp_path: Path, overwrite: bool) -> None:
    file.write_text("note: read")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    roundabout = tmp_path / ".." / tmp_path.name / "file"
    for name in (file, tmp_path / "link", tmp_path / "hard", roundabout):
        with raises(ArgumentError, "--in and --out", name):
            put(name, Taken("--in", file), overwrite=overwrite)
    assert file.read_text() == "note: read"


def test_what_a_folder_holds_is_never_written(file: Path, tmp_path: Path) -> None:
    model, blob = tmp_path / "model", tmp_path / "blob"
    model.mkdir()
    blob.write_text("note: a blob of the hub's cache")
    (model / "config.json").symlink_to(blob)
    for name in (model / "config.json", model / "new", blob, model):
        with raises(ArgumentError, "--out", name, "the folder", model):
            put(name, Taken("the folder", model), overwrite=True)
    assert sorted(path.name for path in model.iterdir()) == ["config.json"]


def test_two_outputs_are_two_files(file: Path) -> None:
    twice = [Wanted("--one", file, NOTE), Wanted("--two", file.parent / "." / "file", NOTE)]
    with raises(ArgumentError, "--one and --two", file), open_files(twice):
        pass
    twice = [Wanted("--one", STDOUT, NOTE), Wanted("--two", Path("/dev/stdout"), NOTE)]
    with raises(ArgumentError, "--one and --two"), open_files(twice):
        pass
    assert not file.exists()


# --- devices, pipes, standard output


def test_a_pipe_gets_the_content(file: Path) -> None:
    os.mkfifo(file)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(file.read_text()))
    reader.start()
    put(file)
    reader.join()
    assert read == ["note: new"]


def test_a_pipe_that_nobody_reads_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(file)
    monkeypatch.setattr(files, "PATIENCE", 0)
    with raises(FileError, "the note cannot be written", file, "nobody reads this pipe"):
        put(file)


def test_nowhere_is_not_standard_output() -> None:
    assert not is_standard_output(Path(os.devnull))
    put(Path(os.devnull))


# --- the commands


@pytest.mark.parametrize(("command", "option"), [("generate", "prompt"), ("fill", "template")])
def test_a_trace_never_replaces_what_is_read(
    run: Any, spawn: Any, file: Path, command: str, option: str
) -> None:
    file.write_text(PUZZLE)
    options = ("--model", "tiny-sudoku", "--seed", 1, "--trace", file, "--overwrite")
    done = run(command, f"--{option}-file", file, *options)
    assert_one_line(done, 2, f"--{option}-file and --trace", file)
    with file.open() as content:
        done = spawn(command, "-", *options, stdin=content)
    assert_one_line(done, 2, "standard input and --trace", file)
    assert file.read_text() == PUZZLE


def test_a_trace_replaces_other_files_only_if_told_so(run: Any, file: Path) -> None:
    file.write_text("precious")
    done = run(*SOLVE[:2], "--model", "no/where", "--trace", file)  # before any model is sought
    assert_one_line(done, 1, file, "trace", "--overwrite")
    assert file.read_text() == "precious"
    done = run(*SOLVE, "--trace", file, "--overwrite")
    assert (done.exit_code, done.stdout) == (0, SOLUTION)
    assert file.read_text().startswith('{"type": "header"')


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "new"])
def test_nothing_is_written_into_the_models_folder(run: Any, sudoku_copy: Path, name: str) -> None:
    before = {path: path.read_bytes() for path in sudoku_copy.iterdir() if path.is_file()}
    target = sudoku_copy / name
    for command in ((*SOLVE[:2], "--trace"), ("profile", "--json"), ("profile", "--trace")):
        done = run(*command, target, "--model", sudoku_copy, "--overwrite")
        assert_one_line(done, 2, command[-1], target, "the model's folder", sudoku_copy)
    assert {path: path.read_bytes() for path in sudoku_copy.iterdir() if path.is_file()} == before


def test_a_cached_model_is_a_folder_too(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sudoku_copy: Path
) -> None:
    hub = tmp_path / "hub"
    snapshot = hub / "models--owner--model" / "snapshots" / "abc"
    shutil.copytree(sudoku_copy, snapshot)
    (hub / "models--owner--model" / "refs").mkdir()
    (hub / "models--owner--model" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    done = run(*SOLVE[:2], "--model", "owner/model", "--trace", snapshot / "config.json")
    assert_one_line(done, 2, "the model's folder", snapshot)


def test_a_picture_replaces_a_picture_alone(run: Any, file: Path, tmp_path: Path) -> None:
    assert run(*SOLVE, "--trace", file).exit_code == 0
    for option, out in (("--svg", tmp_path / "image"), ("--html", tmp_path / "page")):
        out.write_text('<svg xmlns="http://www.w3.org/2000/svg">drawn by hand</svg>')
        assert_one_line(run("replay", file, option, out), 1, out, "--overwrite")
        assert out.read_text().endswith("drawn by hand</svg>")
        assert run("replay", file, option, out, "--overwrite").exit_code == 0
        assert run("replay", file, option, out).exit_code == 0  # its own
        printed = run("replay", file, option, "-")
        assert (printed.exit_code, printed.stdout) == (0, out.read_text())
    done = run("replay", file, "--svg", tmp_path / "page")
    assert_one_line(done, 1, tmp_path / "page", "image")
