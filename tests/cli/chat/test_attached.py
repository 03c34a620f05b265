"""Images in a chat: attached by a command, an option, the clipboard or a path in the line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from paced import paused
from PIL import Image
from pseudo_terminal import PROGRAM, Tty, wait_asleep
from puzzle import assert_one_line

from mlx_diffgemma.cli.chat import of_media
from mlx_diffgemma.errors import ImageError

PUZZLE_PICTURE = Path(__file__).parents[2] / "assets" / "data" / "pictures" / "01-square.png"
LINE = "my photo.png: 60 x 120 pixels, 2 soft tokens, for the next question."


def chat(model: Path, *options: object) -> tuple[object, ...]:
    return ("chat", "--model", model, "--max-tokens", 8, "--seed", 1, *options)


def answers(run: Any, *arguments: object) -> str:
    """What `generate` prints."""
    done = run("generate", *arguments, "--max-tokens", 8, "--seed", 1)
    assert done.exit_code == 0
    return str(done.stdout)


def said(result: Any) -> list[str]:
    """Lines on standard error, but for those on answers that were cut."""
    return [line for line in result.stderr.splitlines() if not line.startswith("cut at ")]


def test_an_image_goes_with_the_next_question(run: Any, seeing_folder: Path, photo: Path) -> None:
    expected = answers(run, "What?", "--image", photo, "--model", seeing_folder)
    for named in (str(photo), f"'{photo}'", str(photo).replace(" ", "\\ "), photo.as_uri()):
        done = run(*chat(seeing_folder), input=f"/image {named}\nWhat?\n")
        assert (done.exit_code, done.stdout) == (0, expected)
        (line,) = said(done)
        assert_says(line, "image", LINE)
    option = run(*chat(seeing_folder, "--image", photo), input="What?\n")
    assert option.stdout == expected
    assert_says(option.stderr.splitlines()[0], "image", LINE)


def test_enter_asks_with_images_alone(run: Any, seeing_folder: Path, photo: Path) -> None:
    expected = answers(run, "", "--image", photo, "--model", seeing_folder)
    assert run(*chat(seeing_folder), input=f"/image {photo}\n\n").stdout == expected


def test_more_soft_tokens_than_the_checkpoints_own(
    run: Any, seeing_folder: Path, photo: Path
) -> None:
    """An image that had been resized was measured by the usual number once more."""
    tokens = ("--image-tokens", 70)
    done = run(*chat(seeing_folder, *tokens), input=f"/image {photo}\nWhat?\n")
    assert_says(said(done)[0], "55 soft tokens")
    expected = answers(run, "What?", "--image", photo, *tokens, "--model", seeing_folder)
    assert (done.exit_code, done.stdout) == (0, expected)


def test_images_are_for_one_question(run: Any, seeing_folder: Path, photo: Path) -> None:
    typed = f"/image {photo}\nWhat?\n/stats\n/reset\nWhat?\n/stats\n"
    done = run(*chat(seeing_folder), input=typed)
    seen, alone = (line for line in said(done) if line.startswith("prompt "))
    assert_says(seen, "tokens, 2 of them soft")
    assert "soft" not in alone
    assert done.stdout.endswith(answers(run, "What?", "--model", seeing_folder))


def test_what_is_attached_can_be_taken_away(run: Any, seeing_folder: Path, photo: Path) -> None:
    typed = f"/image {photo} {photo.as_uri()}\n/image -\n/image -\nWhat?\n"
    done = run(*chat(seeing_folder), input=typed.replace(str(photo), f"'{photo}'", 1))
    assert said(done)[-2:] == ["2 images removed.", "0 images removed."]
    assert done.stdout == answers(run, "What?", "--model", seeing_folder)


def test_a_failed_question_keeps_its_images(run: Any, seeing_folder: Path, photo: Path) -> None:
    long = "x" * 5000
    done = run(*chat(seeing_folder), input=f"/image {photo}\n{long}\nWhat?\n")
    assert done.stdout == answers(run, "What?", "--image", photo, "--model", seeing_folder)
    assert done.exit_code == 1


def test_what_is_not_asked_about_is_said(run: Any, seeing_folder: Path, photo: Path) -> None:
    done = run(*chat(seeing_folder), input=f"/image {photo}\n")
    assert_says(said(done)[-1], "note: 1 attachment without a question")


@pytest.mark.parametrize(
    ("typed", "facts"),
    [
        ("/image none.png", "none.png: No such file"),
        ("/image it's", "it's: No such file"),
        ("/image .", "Is a directory"),
        ("/video", "/video takes one file ... got 0"),
        ("/video a.gif b.gif", "/video takes one file ... got 2"),
        ("/video none.gif", "none.gif: No such file"),
    ],
)
def test_what_cannot_be_attached_is_one_line(
    run: Any, seeing_folder: Path, typed: str, facts: str
) -> None:
    assert_one_line(run(*chat(seeing_folder), input=typed), 1, facts)


def test_a_pipe_drops_no_files(run: Any, seeing_folder: Path, photo: Path) -> None:
    """Text may name files that nobody meant to show."""
    done = run(*chat(seeing_folder), input=f"What is this? {photo}\n{photo}\n")
    assert "soft token" not in done.stderr
    assert_says(said(done)[-1], "error: ... is no command")


def test_questions_and_an_image_are_not_both_standard_input(run: Any, seeing_folder: Path) -> None:
    done = run(*chat(seeing_folder, "--image", "-"), input="x")
    assert_one_line(done, 2, "--image is -, and a chat's questions come from standard input")


def test_a_checkpoint_that_sees_nothing(run: Any, random_folder: Path, photo: Path) -> None:
    done = run(*chat(random_folder), input=f"/image {photo}\nHi\n")
    assert_says(said(done)[0], "error: this checkpoint ... sees no images")
    assert done.stdout
    for option in (("--image", photo), ("--image-tokens", 70)):
        assert_one_line(run(*chat(random_folder, *option), input=""), 1, "sees no images")


def test_the_clipboard(
    run: Any, seeing_folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: list[Any] = [Image.open(photo)]
    monkeypatch.setattr(of_media, "clipboard_images", lambda: contents)
    done = run(*chat(seeing_folder), input="/image\nWhat?\n")
    assert_says(said(done)[0], "image from the clipboard: 60 x 120 pixels, 2 soft tokens")
    expected = answers(run, "What?", "--image", photo, "--model", seeing_folder)
    assert done.stdout == expected
    contents[:] = [photo]
    assert_says(said(run(*chat(seeing_folder), input="/image\n"))[0], LINE)

    def nothing() -> Any:
        raise ImageError("the clipboard holds no picture; copy one, or name a file.")

    monkeypatch.setattr(of_media, "clipboard_images", nothing)
    assert_one_line(run(*chat(seeing_folder), input="/image\n"), 1, "clipboard ... no picture")


# --- a terminal


def prompted(tty: Tty, prompt: str) -> Tty:
    """Waits until the last line is a prompt for a question."""
    return tty.until(lambda tty: not tty.alternate and tty.text().rstrip().endswith(prompt))


@pytest.mark.slow
def test_paths_dropped_into_a_line(run: Any, seeing_folder: Path, photo: Path) -> None:
    both = ("--image", photo, "--image", photo, "--model", seeing_folder)
    expected = answers(run, "What's this?", *both).strip()
    dropped = str(photo).replace(" ", "\\ ")
    shot = photo.with_name("Screenshot 2026-11-28 at 9.41.00\u202fAM.png")  # as macOS names them
    shot.write_bytes(photo.read_bytes())
    with Tty(*PROGRAM, *chat(seeing_folder), columns=200, rows=50) as tty:
        prompted(tty, "0% >").type(f"{dropped} \r")
        prompted(tty, "0% + 1 image >").type(f"\x1b[200~'{shot}' \x1b[201~What's this?\r")
        tty.until(lambda tty: tty.entered == 1)
        prompted(tty, "1% >").type("/stats\r")
        tty.until("tokens, 4 of them soft")
        shown = tty.scrollback()
        assert LINE in shown
        assert "AM.png: 60 x 120 pixels" in shown
        assert repr(expected.splitlines()[-1].split("\t")[-1])[1:-1] in shown
        prompted(tty, "1% >").type("/tmp/none.png\r")
        tty.until("error: /tmp/none.png is no command")
        tty.type(f"/image {dropped}\r")
        prompted(tty, "1% + 1 image >").type("/image -\r")
        tty.until("1 image removed.")
        prompted(tty, "1% >").type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()


def test_ctrl_c_while_an_image_is_waited_for(seeing_folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with Tty(*PROGRAM, *chat(seeing_folder)) as tty:
        prompted(tty, "0% >").type(f"/image {pipe}\r")
        with open(pipe, "wb"):  # opens once the other end is read
            wait_asleep(tty.process.pid)
            tty.type("\x03")
            tty.until("Ctrl-D or /quit leaves.")
        prompted(tty, "0% >").type("/seed\r")
        tty.until("seed: 1.")
        tty.type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()


def test_the_view_names_the_image(seeing_folder: Path, photo: Path, tmp_path: Path) -> None:
    with paused(tmp_path / "log", *chat(seeing_folder, "--image", photo)) as tty:
        prompted(tty, "0% + 1 image >").type("What?\r")
        tty.until(lambda tty: tty.alternate and "canvas 1" in tty.text())
        assert tty.text().startswith("> [my photo.png] What?")
        tty.type("\x03")
        tty.until("no canvases finished")
        prompted(tty, "+ 1 image >").type("\x04")  # nothing was answered: it is still there
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.parametrize(
    ("options", "pictures"), [((), 1), pytest.param(("--no-visual",), 0, marks=pytest.mark.slow)]
)
def test_a_terminal_shows_what_is_attached(
    seeing_folder: Path, photo: Path, options: tuple[str, ...], pictures: int
) -> None:
    env = {"TERM": "xterm-kitty", "TMUX": "", "STY": "", "NO_COLOR": ""}
    with Tty(*PROGRAM, *chat(seeing_folder, *options), env=env) as tty:
        tty.until("0% >").type(f"/image '{photo}'\r")
        tty.until("+ 1 image >").type("\x04")
        assert tty.wait() == 0
        assert tty.bytes.count(b"\x1b_Ga=T") == pictures
        tty.assert_given_back()


def test_what_was_said_is_saved_with_its_images(
    run: Any, seeing_folder: Path, photo: Path, tmp_path: Path
) -> None:
    file = tmp_path / "talk.json"
    typed = f"/image {photo}\nWhat?\n/save {file}\nAnd now?\n"
    both = run(*chat(seeing_folder), input=typed)
    assert "saved 2 messages" in both.stderr
    assert str(photo) in json.dumps(json.loads(file.read_text()))
    again = run(*chat(seeing_folder, "--load", file), input="And now?\n")
    assert both.stdout.endswith(again.stdout)


def test_a_puzzle_is_read_and_solved_from_its_picture(run: Any) -> None:
    """The grid that was read is shown, since a misreading shows there alone."""
    done = run("chat", "--model", "tiny-sudoku", "--seed", 1, input=f"/image {PUZZLE_PICTURE}\n\n")
    assert done.exit_code == 0
    assert done.stdout.startswith("213695478\n647182593\n")
    assert "│ 2 1 3 │ · 9 · │ 4 · 8 │" in done.stderr


@pytest.mark.slow
def test_a_picture_that_shows_no_puzzle_is_let_go(run: Any, photo: Path) -> None:
    """The next one would have been a second picture."""
    typed = f"/image {photo}\n\n/image {PUZZLE_PICTURE}\n\n"
    done = run("chat", "--model", "tiny-sudoku", "--seed", 1, input=typed)
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert_says(error, "picture ... Nothing is attached any more")
    assert done.stdout.startswith("213695478\n")
