"""`--image`, `--video` and `--image-tokens` of generate and fill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from PIL import Image
from pseudo_terminal import PROGRAM, Tty, wait_asleep
from puzzle import SOLVE, assert_one_line
from waiting import SECONDS

PICTURES = Path(__file__).parents[1] / "assets" / "data" / "pictures"
SHORT = ("--max-tokens", 8, "--seed", 1)


def asked(*arguments: object, model: Path) -> tuple[object, ...]:
    return ("generate", *arguments, "--model", model, *SHORT)


def as_json(result: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


# --- what a model gets


def test_an_image_stands_in_front_of_the_prompt(run: Any, seeing_folder: Path, photo: Path) -> None:
    alone = as_json(run(*asked("Hi", "--json", model=seeing_folder)))
    reply = as_json(run(*asked("Hi", "--image", photo, "--json", model=seeing_folder)))
    assert (alone["images"], alone["videos"]) == ([], [])
    assert reply["images"] == [{"tokens": 2, "width": 60, "height": 120}]
    assert reply["prompt_tokens"] == alone["prompt_tokens"] + 4  # begin, two, end
    assert reply["token_ids"] != alone["token_ids"]


def test_images_may_be_repeated_and_their_tokens_chosen(
    run: Any, seeing_folder: Path, photo: Path
) -> None:
    two = ("--image", photo, "--image", photo, "--image-tokens", 70, "--json")
    reply = as_json(run(*asked("Hi", *two, model=seeing_folder)))
    assert reply["images"] == [{"tokens": 55, "width": 60, "height": 120}] * 2


def test_an_image_needs_no_prompt(run: Any, seeing_folder: Path, photo: Path) -> None:
    """Standard input is read as always, and may be empty."""
    image = ("--image", photo, "--json")
    empty = as_json(run(*asked(*image, model=seeing_folder)))
    assert empty["images"]
    given = [run(*asked(*image, model=seeing_folder), input=text) for text in ("Hi", "Ho", " \n")]
    one, other, blank = (as_json(each)["token_ids"] for each in given)
    assert one != other
    assert blank == empty["token_ids"]
    file = ("--prompt-file", os.devnull)
    assert_one_line(
        run(*asked(*file, "--image", photo, model=seeing_folder)), 1, "prompt ... empty"
    )


def test_an_image_from_standard_input(run: Any, seeing_folder: Path, photo: Path) -> None:
    named = run(*asked("Hi", "--image", photo, model=seeing_folder))
    piped = run(*asked("Hi", "--image", "-", model=seeing_folder), input=photo.read_bytes())
    assert (piped.exit_code, piped.stdout, piped.stderr) == (0, named.stdout, named.stderr)
    alone = run(*asked("--image", "-", model=seeing_folder), input=photo.read_bytes())
    assert alone.exit_code == 0
    assert alone.stdout


def test_a_template_has_images_too(run: Any, seeing_folder: Path, photo: Path) -> None:
    base = ("fill", "x [[2]]", "--model", seeing_folder, "--seed", 1, "--json")
    filled = as_json(run(*base, "--image", photo))
    assert filled["text"].startswith("x ")
    assert filled["images"] == [{"tokens": 2, "width": 60, "height": 120}]
    nothing = run("fill", "--image", "-", "--model", seeing_folder, input=photo.read_bytes())
    assert_one_line(nothing, 2, "no template")


def test_a_trace_has_counts_and_no_pixels(
    run: Any, seeing_folder: Path, photo: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "steps.jsonl"
    done = run(*asked("Hi", "--image", photo, "--trace", trace, model=seeing_folder))
    lines = trace.read_text().splitlines()
    header = json.loads(lines[0])
    assert header["images"] == [{"tokens": 2, "width": 60, "height": 120}]
    assert header["videos"] == []
    assert photo.name not in "".join(lines)
    assert max(map(len, lines)) < 2000
    again = run("replay", trace)
    assert (again.exit_code, again.stdout) == (0, done.stdout)


def test_the_trace_of_a_picture_holds_what_was_read(run: Any, tmp_path: Path) -> None:
    picture = PICTURES / "02-wide-480x432.png"
    trace, page = tmp_path / "steps.jsonl", tmp_path / "page.html"
    solve = ("generate", "--model", "tiny-sudoku", "--seed", 1, "--image", picture)
    done = run(*solve, "--trace", trace)
    header = json.loads(trace.read_text().splitlines()[0])
    assert (len(header["prompt"].split()), len(header["images"])) == (9, 1)
    assert run("replay", trace).stdout == done.stdout
    assert run("replay", trace, "--html", page).exit_code == 0
    assert header["prompt"].split()[0] in page.read_text()


# --- what is said of it


def test_each_step_shown_says_what_is_seen(run: Any, seeing_folder: Path, photo: Path) -> None:
    both = ("--image", photo, "--image", "-", "--visual")
    lines = run(*asked("Hi", *both, model=seeing_folder), input=photo.read_bytes()).stderr
    first, second, third, *_ = lines.splitlines()
    assert_says(first, "my photo.png ... 60 x 120 pixels ... 2 soft tokens")
    assert_says(second, "standard input ... 60 x 120 pixels ... 2 soft tokens")
    assert_says(third, "canvas 1 step 1/4".replace("step ", "step  "))
    quiet = run(*asked("Hi", "--image", photo, model=seeing_folder)).stderr
    assert "photo" not in quiet


@pytest.mark.parametrize(
    ("env", "begins"),
    [
        ({"TERM": "xterm-kitty"}, b"\x1b_Ga=T,f=100,r=12,q=2,m="),
        ({"TERM_PROGRAM": "iTerm.app"}, b"\x1b]1337;File=inline=1;height=12;preserve"),
        ({}, None),
    ],
)
def test_a_terminal_shows_the_picture_before_the_view(
    seeing_folder: Path, photo: Path, env: dict[str, str], begins: bytes | None
) -> None:
    clear = {"TERM_PROGRAM": "", "LC_TERMINAL": "", "KITTY_WINDOW_ID": "", "TMUX": "", "STY": ""}
    with Tty(*PROGRAM, *asked("--image", photo, model=seeing_folder), env=clear | env) as tty:
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.entered == 1
        before, _, after = tty.bytes.partition(b"\x1b[?1049h")
        assert b"my photo.png: 60 x 120 pixels, 2 soft tokens." in before
        assert before.count(begins or b"\x1b_G") == int(begins is not None)
        for mark in (b"\x1b_G", b"]1337"):
            assert mark not in after
            assert begins is not None or mark not in before


def test_a_terminal_that_shows_no_steps_shows_no_picture(seeing_folder: Path, photo: Path) -> None:
    arguments = asked("--image", photo, "--no-visual", model=seeing_folder)
    with Tty(*PROGRAM, *arguments, env={"TERM": "xterm-kitty"}) as tty:
        assert tty.wait() == 0
        assert b"\x1b_G" not in tty.bytes
        assert b"photo" not in tty.bytes


# --- what cannot be


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (("x", "--image", "-", "--image", "-"), 2, "--image - is given twice"),
        (("-", "--image", "-"), 2, "- is given for an option and for PROMPT"),
        (("x", "--video", "-"), 2, "--video is - ... a file or a folder"),
        (("x", "--image-tokens", 70), 2, "--image-tokens is given beside no --image"),
        (("x", "--image", "none.png"), 1, "none.png: No such file"),
        (("x", "--image", "."), 1, "Is a directory"),
        (("x", "--image", ""), 1, "Is a directory"),
        (("x", "--image", "https://example.com/x.png"), 1, "nothing is fetched"),
        (("x", "--image", __file__), 1, "test_images.py: no image ... PNG, JPEG"),
        (("x", "--image", "/dev/null"), 1, "/dev/null ... empty"),
        (("x", "--image", "/dev/zero"), 1, "/dev/zero ... more than 64 MiB"),
        (("x", "--video", "none.mp4"), 1, "none.mp4: No such file"),
    ],
)
def test_bad_arguments_are_one_line(
    run: Any, seeing_folder: Path, arguments: tuple[object, ...], code: int, facts: str
) -> None:
    assert_one_line(run(*asked(*arguments, model=seeing_folder)), code, facts)


def test_a_number_of_soft_tokens_that_is_not_offered(
    run: Any, seeing_folder: Path, photo: Path
) -> None:
    for tokens in (71, 0, -1):
        options = ("x", "--image", photo, "--image-tokens", tokens)
        done = run(*asked(*options, model=seeing_folder))
        assert_one_line(
            done, 2, f"--image-tokens is {tokens}, expected 4, 70, 140, 280, 560 or 1120"
        )


def test_a_checkpoint_without_a_tower_says_so_before_anything_is_decoded(
    run: Any, random_folder: Path, photo: Path
) -> None:
    for options in (("--image", photo), ("--image", "none.png"), ("--video", "none.mp4")):
        done = run(*asked("x", *options, model=random_folder))
        assert_one_line(done, 1, "this checkpoint has no vision tower and sees no images")


def test_a_bad_image_is_found_before_the_model(
    run: Any, seeing_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlx_diffgemma.cli.answer import loading

    monkeypatch.setattr(loading.loading, "load_source", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "empty.png").write_bytes(b"")
    done = run(*asked("x", "--image", tmp_path / "empty.png", model=seeing_folder))
    assert_one_line(done, 1, "empty.png ... empty")
    assert_one_line(
        run(*asked("x", "--image", "a.png", model="no/where")), 1, "a.png: No such file"
    )


def test_an_output_is_no_image_that_is_read(
    run: Any, seeing_folder: Path, photo: Path, tmp_path: Path
) -> None:
    before = photo.read_bytes()
    for option in ("--image", "--video"):
        trace = ("--trace", photo, "--overwrite")
        done = run(*asked("x", option, photo, *trace, model=seeing_folder))
        assert_one_line(done, 2, option, "--trace are both", photo)
    frames = tmp_path / "frames"
    frames.mkdir()
    done = run(*asked("x", "--video", frames, "--trace", frames / "t", model=seeing_folder))
    assert_one_line(done, 2, "--trace ... lies in --video")
    assert photo.read_bytes() == before
    same = ("--image", "-", "--trace", "-")
    done = run(*asked("x", *same, model=seeing_folder), input=before)
    assert done.exit_code == 0


def test_a_terminal_is_no_image(seeing_folder: Path) -> None:
    with Tty(*PROGRAM, *asked("--image", "-", model=seeing_folder)) as tty:
        tty.until("--image is -, and standard input is no image; name a file.")
        assert tty.wait() == 1


@pytest.mark.slow
def test_a_missing_pillow_explains_itself(
    spawn: Any, seeing_folder: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='PIL')\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    done = spawn(*asked("x", "--image", photo, model=seeing_folder), env=env)
    assert_one_line(done, 1, "Pillow", '"mlx-diffgemma[image]"')
    assert spawn(*SOLVE, env=env).returncode == 0


def test_ctrl_c_while_an_image_is_waited_for(seeing_folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    command = [
        sys.executable,
        *PROGRAM,
        *map(str, asked("x", "--image", pipe, model=seeing_folder)),
    ]
    child = subprocess.Popen(command, stdout=-1, stderr=-1, stdin=-3)
    with open(pipe, "wb") as writer:  # opens once the other end is read
        writer.write(b"\x89PNG")
        writer.flush()
        wait_asleep(child.pid)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, out, err) == (130, b"", b"interrupted.\n")


def test_an_animation_is_a_video(run: Any, seeing_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "film.gif"
    frames = [Image.new("RGB", (48, 48), (n * 40, 0, 0)) for n in range(5)]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=1000)
    reply = as_json(run(*asked("x", "--video", file, "--json", model=seeing_folder)))
    assert (reply["images"], reply["videos"][0]["frames"]) == ([], 5)
    assert reply["videos"][0]["seconds"] == 5.0
    shown = run(*asked("x", "--video", file, "--visual", model=seeing_folder)).stderr
    assert_says(shown.splitlines()[0], "film.gif ... 5.0 s, 5 frames")


@pytest.mark.slow
def test_an_empty_prompt_leaves_standard_input_to_a_loop(
    seeing_folder: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "list").write_text(f"{photo}\n{photo}\n")
    call = [sys.executable, *PROGRAM, *map(str, asked("", model=seeing_folder))]
    loop = 'while read -r f; do "$@" --image "$f" || exit; echo; done < list'
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shell = ["bash", "-c", loop, "bash", *call]
    done = subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    one, other, _ = done.stdout.split("\n\n")
    assert one == other
    assert "not read" not in done.stderr
