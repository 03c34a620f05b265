"""What of a growing answer is written, and to what kinds of standard output."""

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from puzzle import SOLUTION, SOLVE

from mlx_diffgemma.cli.terminal import output
from mlx_diffgemma.cli.terminal.output import Printer, broken, write_json, write_out


def printed(capsys: pytest.CaptureFixture[str], *parts: str, whole: str) -> str:
    """What a printer writes for the parts of an answer and, at the end, the whole of it."""
    printer = Printer()
    for part in parts:
        printer.add(part)
    printer.finish(whole)
    return capsys.readouterr().out


def test_each_part_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "One.", " Two", whole="One. Two!") == "One. Two!\n"
    assert printed(capsys, "One.\n", "", whole="One.\n") == "One.\n"
    assert printed(capsys, whole="Answer") == "Answer\n"
    assert printed(capsys, whole="") == ""


def test_a_text_that_does_not_go_on_does_not_lose_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert printed(capsys, "ana", whole="The answer") == "ana\nThe answer\n"


def test_a_sentence_breaks_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file or a pipe gets it in one line, as programs search for it."""
    sentence = "A step takes 440 ms, 1.6 times this chip's bound."
    assert broken(sentence) == sentence
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "24")
    rows = broken(sentence).splitlines()
    assert [row.startswith("  ") for row in rows] == [False, True, True]
    assert max(map(len, rows)) <= 24
    assert " ".join(row.strip() for row in rows) == sentence


# --- kinds of standard output


def test_control_characters_reach_files_and_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\x1b[?1049h\x07\x9bb\t\u00e9\x7f\r\nc\rd\n"
    write_out(text)
    assert capsys.readouterr().out == text
    monkeypatch.setattr("mlx_diffgemma.cli.terminal.output.is_terminal", lambda stream: True)
    write_out(text)
    expected = "a\\x1b[?1049h\\x07\\x9bb\t\u00e9\\x7f\r\nc\\x0dd\n"
    assert capsys.readouterr().out == expected


def test_json_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": "\x1b\x7f\x80\x9f\xa0"}
    write_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert not any(unicodedata.category(c) == "Cc" for c in out[:-1])


def test_errors_cannot_draw(run: Any) -> None:
    done = run("replay", "none\x1b[2J\x9b31m")
    assert "none\\x1b[2J\\x9b31m: No such file" in done.stderr


def test_characters_the_encoding_lacks_are_escaped(spawn: Any) -> None:
    code = "from mlx_diffgemma.cli.terminal.output import *; write_out('é'); write_json({'é': '…'})"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout == b'\\xe9{"\\u00e9": "\\u2026"}\n'


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"NO_COLOR": "1"}, marks=pytest.mark.slow),
        {"TERM": "dumb"},
        {"COLUMNS": "20"},
        pytest.param({"COLUMNS": "1"}, marks=pytest.mark.slow),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    ],
    ids=" ".join,
)
def test_any_environment_gets_the_answer(spawn: Any, env: dict[str, str]) -> None:
    done = spawn(*SOLVE, "--visual", env=env)
    assert (done.returncode, done.stdout.decode()) == (0, SOLUTION)
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
    width = int(env.get("COLUMNS", 80))
    *steps, summary = done.stderr.decode().splitlines()
    assert max(map(len, steps)) <= width
    assert summary.endswith("seed 1")  # whole: a pipe has no width


@pytest.mark.parametrize(
    "arguments",
    [SOLVE, pytest.param((*SOLVE, "--json"), marks=pytest.mark.slow), ("info", "tiny-sudoku")],
)
def test_a_closed_pipe_ends_silently(arguments: tuple[str, ...], spawn: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = spawn(*arguments, stdout=closed)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_standard_error_does_not_matter(spawn: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = spawn(*SOLVE, "--visual", stderr=closed)
    assert (done.returncode, done.stdout.decode()) == (0, SOLUTION)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full: full disks not checked")
@pytest.mark.parametrize("arguments", [SOLVE, ("info", "tiny-sudoku"), ("--help",)])
def test_a_full_disk_is_one_line(arguments: tuple[str, ...], spawn: Any) -> None:
    with open("/dev/full", "wb") as full:
        done = spawn(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize("words", [SOLVE, ["generate", "Hi", "--model", "/none"]])
def test_no_standard_output_at_all_is_one_line(words: Sequence[str]) -> None:
    """Said before a model is even looked for."""
    command = [sys.executable, "-m", "mlx_diffgemma", *words]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command], stdin=-3, stderr=-1, check=False
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"error: standard output is closed")


@pytest.mark.parametrize(
    "closing",
    [pytest.param(closed, marks=pytest.mark.slow) for closed in ("<&-", "2>&-", "<&- 2>&-")],
)
def test_a_closed_stream_gives_its_number_to_no_file(closing: str, tmp_path: Path) -> None:
    """MLX could not open the weights as number 0; a trace as number 2 gets all that is said."""
    trace = tmp_path / "steps"
    command = [sys.executable, "-m", "mlx_diffgemma", *SOLVE, "--visual"]
    for more in ([], ["--trace", str(trace)]):
        line = f'"$@" {closing}'
        done = subprocess.run(["bash", "-c", line, "bash", *command, *more], stdout=-1, check=True)
        assert done.stdout.decode() == SOLUTION
    assert all(json.loads(line)["type"] for line in trace.read_text().splitlines())
