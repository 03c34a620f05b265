"""What a person has at a terminal: earlier lines, another editor, Markdown, a clipboard."""

import base64
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pseudo_terminal import PROGRAM, Tty, answered

from mlx_diffgemma.cli.chat.external import edited
from mlx_diffgemma.cli.chat.history import history_file

MARKDOWN = """
import sys
import mlx_diffgemma.conversation.turn as turn
from mlx_diffgemma.text.answer import Answer
given = Answer(sys.argv[1], None, ())
turn.AnswerReader.answer = lambda _: given
turn.AnswerReader.fresh = lambda _: ""
sys.argv = ["mlx-diffgemma", *sys.argv[2:]]
from mlx_diffgemma.cli.app import main
main()
"""
ANSWER = "# Code\n\n1. **Run** it:\n   ```py\n   def f():\n\n       return 1\n   ```\n"


@pytest.fixture
def chat(random_folder: Path) -> tuple[object, ...]:
    return ("chat", "--model", random_folder, "--max-tokens", 8, "--seed", 3)


def an_editor(folder: Path, script: str) -> Mapping[str, str]:
    """The environment in which a shell script is the editor; $1 is the file."""
    tool = folder / "edit"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return {"VISUAL": str(tool)}


def kept() -> list[str]:
    file = history_file()
    assert file is not None
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_lines_of_an_earlier_chat_are_there(chat: Any, tmp_path: Path) -> None:
    """The first line of a chat, text of several lines, and the other editor beside them."""
    with Tty(*PROGRAM, *chat) as tty:
        tty.until("context 2,048. /help lists commands, Ctrl-D leaves.")
        answered(tty, 1).type('"""/seed\r5"""\r')  # Enter breaks the line
        tty.until("cut at 8 tokens; /more goes on.")
        answered(tty, 2).type("/system Be brief.\r")
        answered(tty, 3).type("\x04")
        assert tty.wait() == 0
        assert "\n\n1% >" in tty.scrollback()
    assert kept() == ['"""/seed\n5"""', "/system Be brief."]
    with Tty(*PROGRAM, *chat, env=an_editor(tmp_path, 'sed -i s/brief/kind/ "$1"')) as tty:
        answered(tty, 1).type("\x1b[A")
        tty.until("% > /system Be brief.").type("\x07")
        tty.until("% > /system Be kind.").type("\r")
        tty.until("system text: Be kind.")
        answered(tty, 2).type("\x12brief")
        tty.until("I-search").type("\r")  # takes what was found, and does not ask
        tty.until("% > /system Be brief.").type("\x05?\r")  # Ctrl-E: the cursor stands on it
        tty.until("system text: Be brief.?")
        answered(tty, 3).type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()
    assert kept()[2:] == ["/system Be kind.", "/system Be brief.?"]


@pytest.mark.slow
def test_the_last_question_is_edited_and_asked_in_its_place(chat: Any, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    env = an_editor(tmp_path, 'sed "s/$/ you!/" "$1" > "$1.b"; cat "$1.b" > "$1"')
    with Tty(*PROGRAM, *chat, env=env) as tty:
        answered(tty, 1).type("Hi\r")
        answered(tty, 2).type("/edit\r")
        answered(tty, 3).type(f"/save {file}\r")
        tty.until("saved 2 messages")
        answered(tty, 4).type("\x04")
        assert tty.wait() == 0
    assert json.loads(file.read_text())["messages"][0]["content"] == "Hi you!"


FAILING = """
echo >> "$0.count"
case $(wc -l < "$0.count" | tr -d ' ') in
1) exit 3;;
2) printf '\\377' > "$1";;
3) rm "$1";;
4) kill -9 $$;;
esac
"""


@pytest.mark.slow
def test_an_editor_that_fails_costs_nothing(chat: Any, tmp_path: Path) -> None:
    with Tty(*PROGRAM, *chat, env=an_editor(tmp_path, FAILING)) as tty:
        answered(tty, 1).type("/seed")
        for said in ("code 3;", "not UTF-8", "No such file", "signal 9;"):
            tty.type("\x07")
            tty.until(said).until(lambda tty: tty.text().endswith("% > /seed"))
        tty.type(" 5\r")
        tty.until("seed: 5.")
        answered(tty, 2).type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.slow
def test_ctrl_c_is_the_editors_and_what_is_typed_then_comes_after(
    chat: Any, tmp_path: Path
) -> None:
    env = an_editor(
        tmp_path, "trap 'caught=yes' INT\necho edits >&2; sleep 1; echo $caught > \"$1\""
    )
    with Tty(*PROGRAM, *chat, env=env) as tty:
        answered(tty, 1).type("\x07")
        tty.until("edits").type("\x03 or no")
        tty.until("% > yes or no").type("\x03")
        tty.until("Ctrl-D or /quit leaves.")
        answered(tty, 2).type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.slow
def test_sigterm_while_the_editor_runs(chat: Any, tmp_path: Path) -> None:
    with Tty(
        *PROGRAM, *chat, env=an_editor(tmp_path, "stty raw -echo; echo edits >&2; sleep 9")
    ) as tty:
        answered(tty, 1).type("\x07")
        tty.until("edits").send(signal.SIGTERM)
        assert tty.wait() == 143
        tty.assert_given_back()


def test_no_editor_and_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from facts import raises

    from mlx_diffgemma.cli.chat import external
    from mlx_diffgemma.cli.errors import ArgumentError, FileError

    with raises(ArgumentError, "terminal ... none"):
        edited("x")
    monkeypatch.setattr(external, "is_terminal", lambda stream: True)
    monkeypatch.setattr(external, "can_draw", lambda stream: True)
    monkeypatch.setenv("VISUAL", "/no/where -w")
    with raises(FileError, "/no/where: No such file ... $EDITOR"):
        edited("x")
    monkeypatch.setenv("VISUAL", "a 'b")
    with raises(ArgumentError, "$VISUAL ... a 'b ... $EDITOR"):
        edited("x")
    monkeypatch.delenv("VISUAL")
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.setenv("PATH", "/no/where")
    with raises(ArgumentError, "no editor ... $VISUAL"):
        edited("x")


@pytest.mark.slow
def test_answers_are_markdown_and_their_code_is_copied(chat: Any) -> None:
    env = {"PATH": "/none", "TMUX": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    with Tty("-c", MARKDOWN, ANSWER, *chat, env=env) as tty:
        answered(tty, 1).type("Hi\r")
        answered(tty, 2)
        shown = "Code\n\n1. Run it:\n   ```py\ndef f():\n\n    return 1\n   ```\n"
        assert shown in tty.scrollback()
        assert b"\x1b[1mRun\x1b[0m" in tty.bytes
        tty.type("/copy code\r")
        tty.until("sent to the terminal")
        answered(tty, 3).type("\x04")
        assert tty.wait() == 0
    copied = tty.bytes.partition(b"\x1b]52;c;")[2].partition(b"\x07")[0]
    assert base64.b64decode(copied).decode() == "def f():\n\n    return 1"


@pytest.mark.slow
def test_a_file_gets_the_answer_as_it_was_written(chat: Any, tmp_path: Path) -> None:
    """And without a history, nothing is kept of the lines."""
    file, command = tmp_path / "answers", ("-c", MARKDOWN, ANSWER, *chat, "--no-history")
    with file.open("wb") as out, Tty(*command, stdout=out) as tty:
        answered(tty, 1).type("Hi\r")
        answered(tty, 2).type("\x04")
        assert tty.wait() == 0
    assert file.read_text() == ANSWER
    history = history_file()
    assert history is not None
    assert not history.exists()
