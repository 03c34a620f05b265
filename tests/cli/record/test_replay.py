"""`replay`: a trace played, drawn, and refused where it is none."""

import json
import re
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from facts import assert_says, raises
from pseudo_terminal import GRID_TOP, PROGRAM, Tty
from puzzle import PUZZLE, SOLUTION, SOLVE, assert_one_line

from mlx_diffgemma.cli.errors import FileError
from mlx_diffgemma.cli.record.film import make_film, svg
from mlx_diffgemma.cli.record.pace import Pace
from mlx_diffgemma.cli.record.recording import read_recording
from mlx_diffgemma.cli.terminal.legend import legend


@pytest.fixture(scope="module")
def puzzle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of a solved Sudoku."""
    from typer.testing import CliRunner

    from mlx_diffgemma.cli.app import app

    file = tmp_path_factory.mktemp("trace") / "steps.jsonl"
    assert CliRunner().invoke(app, [*SOLVE, "--trace", str(file)]).exit_code == 0
    return file


@pytest.fixture
def text(run: Any, random_folder: Path, tmp_path: Path) -> tuple[Path, str]:
    """The trace of two canvases, and their text."""
    file = tmp_path / "text.jsonl"
    command = ("generate", "Hi", "--model", random_folder, "--max-tokens", 16, "--seed", 3)
    return file, run(*command, "--trace", file).stdout


def changed(file: Path, number: int, **values: Any) -> None:
    """Sets keys in a line, counted from 0; ... takes a key away."""
    lines = file.read_text(encoding="utf-8").splitlines()
    line = {k: v for k, v in (json.loads(lines[number]) | values).items() if v is not ...}
    lines[number] = json.dumps(line)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- what is read


def test_a_recording_is_what_was_traced(puzzle: Path) -> None:
    lines = [json.loads(line) for line in puzzle.read_text(encoding="utf-8").splitlines()]
    recording = read_recording(puzzle)
    assert (recording.num_steps, recording.answer + "\n") == (48, SOLUTION)
    assert [lines[0]["mode"], lines[1]["type"], lines[1]["mode"]] == [
        "diffusion",
        "segment",
        "diffusion",
    ]
    assert len(recording.frames) == len(lines) - 2
    for frame, line in zip(recording.frames, lines[2:], strict=True):
        assert frame.tokens.tolist() == line["tokens"]
        assert "".join(recording.read(frame).pieces) == line.get("text", SOLUTION[:-1]) or (
            line["type"] == "step"
        )
        if line["type"] == "step":
            assert frame.accepted.astype(int).tolist() == line["accepted"]
            assert frame.entropies.tolist() == pytest.approx(line["entropies"])
            assert (frame.seconds, frame.encode_seconds) == (
                line["seconds"],
                line["encode_seconds"],
            )


def test_the_strain_of_a_form_is_read_again(puzzle: Path, tmp_path: Path) -> None:
    """And a trace from before there were forms is read without it."""
    held, older = tmp_path / "held.jsonl", tmp_path / "older.jsonl"
    last = len(puzzle.read_text(encoding="utf-8").splitlines()) - 1
    for file, strain, settled in ((held, 0.25, True), (older, ..., ...)):
        file.write_bytes(puzzle.read_bytes())
        changed(file, 2, strain=strain)
        changed(file, last, settled=settled)
    frames = read_recording(held).frames
    assert (frames[0].strain, frames[1].strain, frames[-1].settled) == (0.25, None, True)
    frames = read_recording(older).frames
    assert (frames[0].strain, frames[-1].settled) == (None, None)
    for line, value in ((2, {"strain": "x"}), (last, {"settled": 1})):
        broken = tmp_path / "broken.jsonl"
        broken.write_bytes(held.read_bytes())
        changed(broken, line, **value)
        with raises(FileError, f"line {line + 1} is wrong"):
            read_recording(broken)


def test_without_a_terminal_only_the_answer_is_printed(
    run: Any, puzzle: Path, text: tuple[Path, str]
) -> None:
    for file, answer in ((puzzle, SOLUTION), text):
        done = run("replay", file, "--speed", 1e-3)  # and without waiting
        assert (done.exit_code, done.stdout, done.stderr) == (0, answer, "")


def test_an_interrupted_trace_says_so(
    run: Any, puzzle: Path, text: tuple[Path, str], tmp_path: Path
) -> None:
    """Bug: what was finished passed for the whole answer, with exit code 0."""
    file = tmp_path / "part.jsonl"
    file.write_text("".join(puzzle.read_text().splitlines(keepends=True)[:3]))
    assert_one_line(run("replay", file), 1, file, "interrupted", "0 canvases")
    lines = text[0].read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:6]), encoding="utf-8")
    done = run("replay", file)
    answer = json.loads(lines[5])["answer"]
    assert (done.exit_code, done.stdout.removesuffix("\n")) == (1, answer.removesuffix("\n"))
    assert_says(done.stderr[:-1], "error:", file, "interrupted", "1 canvas finished")


def test_an_answer_that_was_refused_is_refused_again(run: Any, tmp_path: Path) -> None:
    """Bug: `replay` printed as the answer what `generate` refused."""
    file = tmp_path / "wrong.jsonl"
    given = (*SOLVE, "--steps", "1", "--trace", file)
    refused = run(*given)
    assert_one_line(refused, 1, "not a valid solution")
    again = run("replay", file)
    assert (again.exit_code, again.stdout, again.stderr) == (1, "", refused.stderr)
    page = tmp_path / "wrong.html"
    assert run("replay", file, "--html", page).exit_code == 0
    assert "Refused: not a valid solution" in page.read_text(encoding="utf-8")


def test_a_trace_of_an_earlier_version_plays(run: Any, puzzle: Path, tmp_path: Path) -> None:
    """It kept neither the prompt nor the verdict."""
    file = tmp_path / "old.jsonl"
    file.write_bytes(puzzle.read_bytes())
    changed(file, 0, prompt=...)
    changed(file, -1, refused=...)
    assert read_recording(file).prompt is None
    assert run("replay", file).stdout == SOLUTION
    assert run("replay", file, "--html", tmp_path / "old.html").exit_code == 0


def test_a_trace_keeps_the_prompt(puzzle: Path) -> None:
    assert (read_recording(puzzle).prompt or "").replace("\n", "") == PUZZLE.replace(".", "0")


def test_two_traces_in_one_file_are_called_that(run: Any, puzzle: Path, tmp_path: Path) -> None:
    """Line 7 lacked 'header'."""
    file, content = tmp_path / "twice.jsonl", puzzle.read_text()
    file.write_text(content + content)
    number = len(content.splitlines()) + 1
    assert_one_line(
        run("replay", file), 1, file, f"second trace from line {number}", "expected one"
    )


def test_a_line_of_no_known_type_says_so(run: Any, puzzle: Path, tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_bytes(puzzle.read_bytes())
    changed(file, 3, type="max_denoising_steps")  # nobody gave --steps
    assert_one_line(run("replay", file), 1, file, "line 4 ... type 'max_denoising_steps'")


# --- played


@pytest.mark.slow
def test_it_is_played_on_a_terminal(puzzle: Path) -> None:
    with Tty(*PROGRAM, "replay", puzzle, "--speed", "0.1") as tty:
        for step in (1, 3):
            tty.until(
                lambda tty, step=step: tty.alternate and f"step {step:>2} of 48" in tty.text()
            )
            assert tty.text().startswith(GRID_TOP)
        tty.until(lambda tty: "step  4 of 48" in tty.text())
        assert tty.text().splitlines()[1] == "│ 5 3 4 │ 6 7 8 │ 9 1 2 │"
        tty.type("\x03")
        assert tty.wait() == 130
        tty.assert_given_back()
    with Tty(*PROGRAM, "replay", puzzle, "--speed", "2") as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        assert (tty.entered, tty.scrollback() + "\n") == (1, SOLUTION)


def test_keys_pause_step_and_end_it(puzzle: Path) -> None:
    """Bug: only Ctrl-C did anything."""
    with Tty(*PROGRAM, "replay", puzzle, "--pace", "10") as tty:
        tty.until("space pause  ←→ step  ? legend  q end")
        assert "step  1 of 48" in tty.text()
        for key, step in (("\x1b[C", 2), ("\x1b[C", 3), ("\x1b[D", 2)):
            tty.type(key)
            tty.until(lambda tty, step=step: f"step {step:>2} of 48" in tty.text())
        tty.until("paused at 2 of ")
        tty.type(" ")
        tty.until("space pause")
        tty.type("q")
        assert tty.wait() == 0
        tty.assert_given_back()
        assert (tty.entered, tty.scrollback() + "\n") == (1, SOLUTION)


def test_ctrl_z_while_paused_comes_back(puzzle: Path) -> None:
    """The shell has its echo meanwhile, and the replay its keys when it goes on."""
    shell = "import os; os.environ['PS1'] = '$ '; os.execvp('bash', ['bash', '--norc', '-i'])"
    replay = shlex.join(map(str, (sys.executable, *PROGRAM, "replay", puzzle, "--pace", 10)))
    with Tty("-c", shell, columns=120) as tty:
        tty.until("$").type(f"{replay}\r")
        tty.until("space pause").type(" ")
        tty.until("paused at 1 of ").type("\x1a")
        tty.until("Stopped").type("echo $((6*7)); fg\r")
        tty.until(lambda tty: "\n42\n" in tty.scrollback())
        tty.until(lambda tty: tty.alternate and "paused at 1 of " in tty.text()).type("\x1b")
        tty.until(lambda tty: not tty.alternate and tty.text().endswith("$")).type("exit\r")
        assert tty.wait() == 0


def test_sigterm_while_paused_gives_the_terminal_back(puzzle: Path) -> None:
    with Tty(*PROGRAM, "replay", puzzle, "--pace", "10") as tty:
        tty.until("space pause")
        tty.type(" ")
        tty.until("paused at 1 of ")
        tty.send(signal.SIGTERM)
        assert tty.wait() == 143
        tty.assert_given_back()


@pytest.mark.slow
def test_the_hint_gives_way_to_the_grid(puzzle: Path) -> None:
    """15 rows have room for one of the two lines below, 14 for none."""
    for rows, hints in ((15, 1), (14, 0)):
        with Tty(*PROGRAM, "replay", puzzle, "--pace", "10", columns=40, rows=rows) as tty:
            tty.until("step  1 of 48")
            assert tty.text().startswith(GRID_TOP)
            assert tty.text().count("q end") == hints
            assert "entropy in nats" not in tty.text()
            tty.type("q")
            assert tty.wait() == 0
            tty.assert_given_back()


@pytest.mark.slow
def test_an_answer_with_escapes_does_not_reach_the_terminal(puzzle: Path, tmp_path: Path) -> None:
    """It could leave the other screen on, which nothing else ever does."""
    file = tmp_path / "evil.jsonl"
    file.write_bytes(puzzle.read_bytes())
    changed(file, -1, answer="one\x1b[?1049h\x9b31m\r\n\ttwo\rthree")
    with Tty(*PROGRAM, "replay", file, "--speed", 100) as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.scrollback() == "one\\x1b[?1049h\\x9b31m\n        two\\x0dthree"


# --- drawn


def test_an_image_plays_without_a_script(run: Any, puzzle: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.svg"
    assert run("replay", puzzle, "--svg", out).stdout == ""
    content = out.read_text(encoding="utf-8")
    tree = ElementTree.fromstring(content)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<script" not in content
    assert "http" not in content.replace("http://www.w3.org/2000/svg", "")
    used = set(re.findall(r'class="(t\d+-\d+)"', content))
    assert used
    assert used == set(re.findall(r"@keyframes (t\d+-\d+)", content))


def test_each_moment_of_an_image_is_a_step(puzzle: Path) -> None:
    """At the start of each step, the lines that are visible are those of its picture."""
    film = make_film(read_recording(puzzle), Pace())
    content = svg(film, "x")
    tree = ElementTree.fromstring(content)
    space = "{http://www.w3.org/2000/svg}"
    (body,) = [g for g in tree if g.tag == space + "g"]
    for number, picture in enumerate(film.pictures):
        texts = [e for e in body if e.tag == space + "text"]
        for group in body.findall(space + "g"):
            first, end = map(int, group.attrib["class"][1:].split("-"))
            if first <= number < end:
                texts += group.findall(space + "text")
        rows: dict[int, list[tuple[float, str]]] = {}
        for element in texts:
            x, y = float(element.attrib["x"]), int(element.attrib["y"])
            rows.setdefault(y, []).append((x, element.text or ""))
        shown = ["".join(t for _, t in sorted(rows[y])).replace("\u00a0", "") for y in sorted(rows)]
        lines = ("".join(s.text for s in line) for line in (*picture.lines, legend()))
        assert shown == [line.replace(" ", "") for line in lines if line.strip()]
    assert list(film.starts) == sorted(film.starts)
    assert film.length > film.starts[-1]


def test_no_more_than_twelve_pictures_a_second(puzzle: Path) -> None:
    film = make_film(read_recording(puzzle), Pace(1e5))
    gaps = [b - a for a, b in zip(film.starts, film.starts[1:], strict=False)]
    assert min(gaps) == pytest.approx(1 / 12)


def test_speed_stretches_time(puzzle: Path) -> None:
    recording = read_recording(puzzle)
    frames = tuple(replace(frame, seconds=0.2) for frame in recording.frames)
    recording = replace(recording, frames=frames)
    slow, fast = (make_film(recording, Pace(speed)) for speed in (0.25, 0.5))
    assert slow.starts[-1] == pytest.approx(2 * fast.starts[-1])


def test_the_last_picture_is_held_for_two_seconds_at_any_speed(puzzle: Path) -> None:
    for speed in (1e-3, 1.0, 1e3):
        film = make_film(read_recording(puzzle), Pace(speed))
        assert film.length - film.starts[-1] == pytest.approx(2.0)


def test_what_a_model_says_is_no_markup(puzzle: Path, tmp_path: Path) -> None:
    file = tmp_path / "evil.jsonl"
    file.write_bytes(puzzle.read_bytes())
    pieces = ["</text><script>alert(1)</script>", "&amp;", "\x00"] + ["x"] * 87
    changed(file, 0, layout=None)
    changed(file, 2, pieces=pieces)
    content = svg(make_film(read_recording(file), Pace()), "a <title>")
    ElementTree.fromstring(content)
    assert "<script" not in content
    assert "&amp;amp;" in content


# --- what is refused


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "is empty, expected a trace"),
        ("hello\n", "has no JSON in line 1, expected a trace"),
        ("[]\n", "has no object in line 1"),
        ("[" * 200_000, "has no JSON in line 1, expected a trace"),
        ('{"text": "hi"}\n', "has no header in line 1"),
        ('{"type": "header", "version": "0.0.9"}\n', "has format none (written by 0.0.9)"),
        ('{"type": "header", "format": 9, "version": "3.0"}\n', "has format 9 (written by 3.0)"),
        ('{"type": "header", "format": 1}\n', "line 1 lacks 'canvas_length'"),
    ],
)
def test_what_is_no_trace_is_one_line(run: Any, tmp_path: Path, content: str, part: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    assert_one_line(run("replay", file), 1, part, "generate --trace")


def test_a_last_line_that_is_cut_off_is_one_line(run: Any, puzzle: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.jsonl"
    whole = puzzle.read_bytes()
    for length in (len(whole) - 2, len(whole) - 600, whole.index(b"\n") + 10):
        file.write_bytes(whole[:length])
        assert_one_line(run("replay", file), 1, "is cut off in line", "remove that line")
    file.write_bytes(whole[:-1])
    assert run("replay", file).stdout == SOLUTION


@pytest.mark.parametrize(
    ("number", "values", "part"),
    [
        (0, {"canvas_length": 0}, "line 1 ... 0 ... whole number from 1"),
        (0, {"canvas_length": 10**12}, "line 1 ... 1000000000000 ... whole number ... 262,144"),
        (0, {"sampler": 3}, "line 1 is wrong"),
        (0, {"layout": [[90]]}, "line 1 is wrong (position 90 of 90)"),
        (0, {"layout": 3}, "line 1 is wrong"),
        (0, {"layout": [["\x1b[2J"]]}, "\\x1b[2J' cannot be drawn)"),
        (0, {"mode": "both"}, "line 1 is wrong ('both' is none of diffusion, ar, auto)"),
        (1, {"mode": "ar"}, "goes on elsewhere in line 3"),
        (1, {"mode": "auto"}, "line 2 is wrong ('auto' is none of"),
        (1, {"canvas": 1}, "goes on elsewhere in line 2"),
        (2, {"type": "other"}, "line 3 ... type 'other'"),
        (2, {"pieces": ...}, "line 3 lacks 'pieces'"),
        (2, {"pieces": ["x"]}, "line 3 ... tokens, pieces and roles"),
        (2, {"pieces": [1] * 90}, "line 3 is wrong (1 is no text)"),
        (2, {"roles": "z" * 90}, "line 3 ... tokens, pieces and roles"),
        (2, {"tokens": [0.5] * 90}, "line 3 is wrong (0.5 is no whole number"),
        (2, {"entropies": [0.5]}, "line 3 ... list ... as long as the canvas"),
        (2, {"entropies": ["x"] * 90}, "line 3 is wrong"),
        (2, {"entropies": [float("nan")] * 90}, "line 3 ... NaN"),
        (2, {"entropies": [1e308] * 90}, "line 3 is wrong (1e+308 is no entropy"),
        (2, {"accepted": None}, "line 3 is wrong"),
        (2, {"seconds": -1}, "line 3 is wrong (-1 is no time"),
        (2, {"tokens": [1 << 40] * 90}, "line 3 is wrong"),
        (2, {"step": 1}, "goes on elsewhere in line 3"),
        (3, {"step": 0}, "goes on elsewhere in line 4"),
        (3, {"canvas": 1}, "goes on elsewhere in line 4"),
        (-1, {"canvas": 1}, "goes on elsewhere in line"),
        (-1, {"answer": 3}, "is wrong (3 is no text)"),
    ],
)
def test_a_damaged_line_is_named(
    run: Any, puzzle: Path, tmp_path: Path, number: int, values: dict[str, Any], part: str
) -> None:
    file = tmp_path / "damaged.jsonl"
    file.write_bytes(puzzle.read_bytes())
    changed(file, number, **values)
    assert_one_line(run("replay", file), 1, part)


def test_a_header_alone_is_no_generation(run: Any, puzzle: Path, tmp_path: Path) -> None:
    file = tmp_path / "header.jsonl"
    file.write_bytes(puzzle.read_bytes().splitlines(keepends=True)[0])
    assert_one_line(run("replay", file), 1, "holds no step")


@pytest.mark.parametrize("pace", ["-1", "nan", "inf", "11"])
def test_a_pace_is_a_time_that_somebody_waits(run: Any, puzzle: Path, pace: str) -> None:
    assert_one_line(run("replay", puzzle, "--pace", pace), 2, "--pace", pace, "0 to 10")


def test_speed_and_pace_exclude_each_other(run: Any, puzzle: Path) -> None:
    given = ("--speed", "2", "--pace", "1")
    assert_one_line(run("replay", puzzle, *given), 2, "--speed", "--pace", "one of them")


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf"])
def test_a_speed_is_above_0(run: Any, puzzle: Path, speed: str) -> None:
    assert_one_line(run("replay", puzzle, "--speed", speed), 2, "--speed is", "above 0")


def test_files_that_cannot_be_read_or_written_are_one_line(
    run: Any, puzzle: Path, tmp_path: Path
) -> None:
    assert_one_line(run("replay", tmp_path / "none"), 1, "No such file or directory")
    assert_one_line(run("replay", tmp_path), 1, "Is a directory")
    done = run("replay", puzzle, "--svg", tmp_path / "none" / "x.svg")
    assert_one_line(done, 1, "the image cannot be written", "x.svg: No such file or directory")


def test_no_file_replaces_another_that_is_wanted(run: Any, puzzle: Path, tmp_path: Path) -> None:
    trace, linked = tmp_path / "steps", tmp_path / "linked"
    trace.write_bytes(puzzle.read_bytes())
    linked.hardlink_to(trace)
    for out in (trace, linked, tmp_path / ".." / tmp_path.name / "steps"):
        assert_one_line(run("replay", trace, "--svg", out), 2, "FILE and --svg are both")
    both = ("--svg", tmp_path / "out", "--html", tmp_path / "out")
    assert_one_line(run("replay", trace, *both), 2, "--svg and --html are both")
    assert trace.read_bytes() == puzzle.read_bytes()
    assert run("replay", trace, "--svg", "/dev/null", "--html", "/dev/null").exit_code == 2


def test_an_image_that_cannot_be_finished_leaves_the_one_before(
    run: Any, puzzle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "steps.svg"
    out.write_text("before")

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlx_diffgemma.machine.files.os.write", full)
    done = run("replay", puzzle, "--svg", out, "--overwrite")
    assert_one_line(done, 1, "No space left on device")
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["steps.svg"]


# --- modes


@pytest.fixture(scope="module")
def modes(random_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Traces of mode ar, and of mode auto that ends with a token of mode ar behind a canvas."""
    from typer.testing import CliRunner

    from mlx_diffgemma.cli.app import app

    place, files = tmp_path_factory.mktemp("modes"), {}
    for name, options in (("ar", ["ar"]), ("auto", ["auto", "--auto-times", "1,1000"])):
        files[name] = place / f"{name}.jsonl"
        command = ["generate", "Hi", "--model", str(random_folder), "--max-tokens", "9"]
        given = [*command, "--seed", "3", "--mode", *options, "--trace", str(files[name])]
        assert CliRunner().invoke(app, given).exit_code == 0
    return files


def test_tokens_are_read_as_they_were_written(modes: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in modes["ar"].read_text(encoding="utf-8").splitlines()]
    tokens = [line for line in lines if line["type"] == "token"]
    recording = read_recording(modes["ar"])
    written = [frame for frame in recording.frames if not frame.committed]
    assert (recording.modes, recording.asked, len(written)) == ({"ar"}, "ar", 9)
    for frame, line in zip(written, tokens, strict=True):
        assert (frame.canvas, frame.step) == (line["canvas"], line["step"])
        assert (frame.tokens[-1], len(frame.tokens)) == (line["token"], line["step"] + 1)
        assert frame.entropies[-1] == pytest.approx(line["entropy"])
        assert (frame.seconds, frame.top_probability) == (line["seconds"], line["top_probability"])
        parts = recording.read(frame)
        assert (parts.pieces[-1], parts.roles[-1]) == (line["piece"], line["role"])
        assert len(parts.pieces) == len(parts.roles) == len(frame.tokens)


def test_traces_of_all_modes_are_replayed_and_drawn(
    run: Any, modes: dict[str, Path], tmp_path: Path
) -> None:
    titles = {"ar": "token by token", "auto": "out of noise, then written token by token"}
    for name, file in modes.items():
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        done = run("replay", file)
        assert (done.exit_code, done.stdout.rstrip("\n")) == (0, lines[-1]["answer"].rstrip("\n"))
        image, page = tmp_path / f"{name}.svg", tmp_path / f"{name}.html"
        assert run("replay", file, "--svg", image, "--html", page).exit_code == 0
        content = image.read_text(encoding="utf-8")
        ElementTree.fromstring(content)
        assert titles[name] in content
        assert (">accepted</text>" in content) == (name == "auto")
        assert f"<h1>Text {'written ' if name == 'ar' else 'coming '}" in page.read_text()


def test_an_interrupted_trace_of_mode_ar_keeps_its_tokens(
    run: Any, modes: dict[str, Path], tmp_path: Path
) -> None:
    whole = modes["ar"].read_text(encoding="utf-8").splitlines(keepends=True)
    written = [line for line in map(json.loads, whole) if line["type"] == "token"]
    file = tmp_path / "part.jsonl"
    for lines, tokens in ((4, 2), (10, 8), (13, 9)):  # a header, a segment, 8 tokens, a commit
        answer = "".join(line["piece"] for line in written[:tokens] if line["role"] == "a")
        file.write_text("".join(whole[:lines]), encoding="utf-8")
        done = run("replay", file)
        shown = done.stdout.removesuffix("\n")
        assert (done.exit_code, shown) == (1, answer.removesuffix("\n"))
        assert_says(done.stderr[:-1], "error:", file, f"interrupted generation: {tokens} tokens")


def test_a_trace_of_the_first_format_is_read(puzzle: Path, tmp_path: Path) -> None:
    """Earlier versions had canvases alone, and no line in front of one."""
    lines = [json.loads(line) for line in puzzle.read_text(encoding="utf-8").splitlines()]
    kept = [{**line, "format": 1} for line in lines if line["type"] != "segment"]
    del kept[0]["mode"], kept[0]["sampler"]["ar"]
    file = tmp_path / "first.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
    first, now = read_recording(file), read_recording(puzzle)
    assert svg(make_film(first, Pace()), "x") == svg(make_film(now, Pace()), "x")
    assert (first.answer, first.asked, first.prompt) == (now.answer, now.asked, now.prompt)


@pytest.mark.parametrize(
    ("number", "values", "part"),
    [
        (2, {"token": -1}, "line 3 is wrong (-1 is no whole number"),
        (2, {"entropy": None}, "line 3 is wrong (None is no entropy"),
        (2, {"top_probability": "x"}, "line 3 is wrong ('x' is no probability"),
        (2, {"piece": 3}, "line 3 is wrong (3 is no text)"),
        (2, {"role": "ab"}, "line 3 is wrong ('ab' is none of a, b, c, t)"),
        (2, {"seconds": ...}, "line 3 lacks 'seconds'"),
        (3, {"step": 2}, "goes on elsewhere in line 4"),
        (3, {"type": "segment", "mode": "ar", "encode_seconds": 0}, "elsewhere in line 4"),
        (1, {"mode": "diffusion"}, "goes on elsewhere in line 3"),
        (1, {"type": "token"}, "line 2 lacks 'step'"),
        (0, {"format": 1}, "line 2 ... type 'segment'"),
        (0, {"format": True}, "has format True"),
    ],
)
def test_a_damaged_line_of_mode_ar_is_named(
    run: Any, modes: dict[str, Path], tmp_path: Path, number: int, values: Any, part: str
) -> None:
    file = tmp_path / "damaged.jsonl"
    file.write_bytes(modes["ar"].read_bytes())
    changed(file, number, **values)
    assert_one_line(run("replay", file), 1, part)
