"""`chat`, through a pipe and under a real terminal."""

import json
import os
import random
import shlex
import signal
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from checkpoints import edit_json
from facts import assert_says
from paced import PACED, go_on, paced, paused
from pseudo_terminal import GRID_TOP, PROGRAM, Tty, answered, ended_by_signals
from puzzle import PUZZLE, SOLUTION, assert_one_line

CHAT = ("chat", "--model", "tiny-sudoku", "--seed", "1")
EASY = "".join(
    "." if place % 10 in (0, 4, 8) else cell
    for place, cell in enumerate(SOLUTION.replace("\n", ""))
)


# --- a pipe


def test_every_line_is_a_question(spawn: Any) -> None:
    done = spawn(*CHAT, input=f"{PUZZLE}\n\n  \n{EASY}\r\n".encode())
    assert (done.returncode, done.stdout.decode()) == (0, SOLUTION * 2)
    assert done.stderr == b""


def test_a_backslash_goes_on_in_the_next_line(run: Any) -> None:
    done = run(*CHAT, input=f"{PUZZLE[:40]}\\\n{PUZZLE[40:]}")
    assert (done.exit_code, done.stdout, done.stderr) == (0, SOLUTION, "")


def test_a_question_that_fails_does_not_end_the_chat(run: Any) -> None:
    done = run(*CHAT, input=b"hello\n\xff\n/nothing\n" + PUZZLE.encode())
    assert (done.exit_code, done.stdout) == (1, SOLUTION)
    first, second, third = done.stderr.splitlines()
    assert_says(first, "error: 'h' at line 1, character 1 ... puzzle")
    assert_says(second, "error: ... UTF-8 (byte 0xff)")
    assert_says(third, "error: /nothing ... /help")


def test_what_a_template_ignores_is_said_once_a_chat(run: Any, random_folder: Path) -> None:
    base = ("chat", "--model", random_folder, "--max-tokens", 8, "--seed", 1)
    done = run(*base, "--think", input="Hi\nAnd now?\n/reset\nHi\n")
    note, reset = (line for line in done.stderr.splitlines() if not line.startswith("cut "))
    assert_says(note, "note: the chat template ignores think")
    assert_says(reset, "a new conversation")


def test_nothing_to_answer_is_no_error(run: Any) -> None:
    assert run(*CHAT, input="").exit_code == 0
    assert run(*CHAT, input="/quit\nhello").exit_code == 0


def test_a_blank_in_front_makes_a_question(run: Any, random_folder: Path) -> None:
    base = ("chat", "--model", random_folder, "--max-tokens", 8, "--seed", 3)
    for line in ("/usr/bin?", "/help", "quit"):
        done = run(*base, input=f" {line}\n")
        assert done.exit_code == 0
        assert done.stdout.strip()
        assert "error" not in done.stderr


def test_a_pipe_asks_what_people_leave_with(run: Any, random_folder: Path) -> None:
    """There, a line is a question, and the end of the input ends the chat."""
    done = run("chat", "--model", random_folder, "--max-tokens", 8, input="quit\nbye\n")
    assert done.exit_code == 0
    assert done.stderr.count("cut at 8 tokens") == 2


def test_a_cut_answer_says_how_to_go_on(run: Any, random_folder: Path) -> None:
    base = ("chat", "--model", random_folder, "--seed", 3)
    done = run(*base, "--max-tokens", 8, input="Hi")
    assert_says(done.stderr[:-1], "cut at 8 tokens; /more goes on")
    full = run(*base, input="x" * 2020)
    assert_says(full.stderr[:-1], "cut at 16 tokens, the context is full; /save FILE ... /reset")


def test_another_seed_is_a_command_here(run: Any, sudoku_copy: Path) -> None:
    """`try another --seed` is of no use in a chat, and never after fewer steps than are usual."""
    edit_json(sudoku_copy / "generation_config.json", max_denoising_steps=1)
    done = run("chat", "--model", sudoku_copy, "--seed", 1, input=PUZZLE)
    assert_says(done.stderr[:-1], "error: not a valid solution ... /seed new, then ask again")
    done = run(*CHAT, "--steps", 1, input=PUZZLE)
    assert_says(done.stderr[:-1], "error: not a valid solution ... start chat with more --steps")


def test_a_conversation_that_does_not_fit_any_more_goes_on_after_reset(
    run: Any, random_folder: Path
) -> None:
    base = ("chat", "--model", random_folder, "--max-tokens", 8, "--seed", 3)
    first, again = run(*base, input="Hi\n").stdout, "x" * 2030
    done = run(*base, input=f"Hi\n{again}\n/reset\nHi\n")
    assert done.stdout == first * 2
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert_says(error, "positions ... 2,048 ... /save FILE ... /reset")
    alone = run(*base, input="x" * 2100)
    assert "/reset" not in alone.stderr  # nothing to forget


def test_a_closed_pipe_ends_it(spawn: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = spawn(*CHAT, input=f"{PUZZLE}\n{PUZZLE}\n".encode(), stdout=closed)
    assert (done.returncode, done.stderr) == (141, b"")


# --- commands


@pytest.mark.parametrize(
    ("typed", "facts"),
    [
        ("/system", "system text: none"),
        ("/system Be brief.\n/system", "system text: Be brief."),
        ("/system Be brief.\n/system -", "system text: none"),
        ("/think", "no thought ... thinking is off ... /think on"),
        ("/think on", "thinking is on"),
        ("/think maybe", "error: /think takes on, off or nothing ... 'maybe'"),
        ("/seed", "seed: 1"),
        ("/seed 7", "seed: 7"),
        ("/seed new", "seed: a new one"),
        ("/seed x", "error: /seed takes a number from 0 to ... or new ... 'x'"),
        ("/seed -1", "error: /seed takes a number from 0 to ... or new ... '-1'"),
        ("/Seed 7", "seed: 7"),
        ("/SYSTEM Be brief.", "system text: Be brief."),
        ("/sead 7", "error: /sead is no command; did you mean /seed? /help ... a blank in front"),
        ("/etc/hosts is what?", "error: /etc/hosts ... /help lists them, a blank in front"),
        ("/", "error: / is no command ... /help"),
        ("// a comment", "error: // is no command ... /help"),
        ("/stats", "no answer yet"),
        ("/stats now", "error: /stats takes nothing ... 'now'"),
        ("/save", "error: /save ... name of a file"),
        ("/save ~nobody-of-this-name/x", "error: /save '~nobody-of-this-name/x' ... no such user"),
        ("/save a\0b", "error: 'a\\x00b' ... file's name"),
        ("/imgae cat.png", "error: /imgae ... did you mean /image? /help"),
        ("/video", "error: /video takes one file"),
        ("/image -", "0 images removed."),
        ("/reset", "a new conversation ... system text and model stay"),
    ],
)
def test_commands_answer_on_standard_error(run: Any, typed: str, facts: str) -> None:
    done = run(*CHAT, input=typed)
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith(facts.partition(" ... ")[0])
    assert_says(line, facts)
    assert done.exit_code == (1 if facts.startswith("error") else 0)


@pytest.mark.parametrize("typed", ["/exit", "/bye", "/Quit", "/q"])
def test_leaving_by_other_names(run: Any, typed: str) -> None:
    """They were questions, and the model answered."""
    done = run(*CHAT, input=f"{typed}\nhello")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("typed", ["/help", "/?", "/Help", "/HELP"])
def test_help_names_every_command(run: Any, typed: str) -> None:
    shown = run(*CHAT, input=typed).stderr
    assert "Ctrl-J" in shown
    assert "A blank in front" in shown
    for name in (
        "system",
        "image",
        "video",
        "think",
        "seed",
        "stats",
        "save",
        "reset",
        "help",
        "quit",
    ):
        assert f"\n/{name} " in f"\n{shown}"


def test_stats_are_those_of_the_last_answer(run: Any) -> None:
    shown = run(*CHAT, input=f"{PUZZLE}\n/stats\n/seed 5\n").stderr
    assert "context: 98 of 512 positions (19.1%)" in shown
    assert "\n1 canvas, steps 4, 22.5 tokens a step" in shown
    assert "seed: 5; the last answer's is 1." in shown


def test_the_seed_decides_the_answer(run: Any, random_folder: Path) -> None:
    base = ("--model", random_folder, "--max-tokens", 8)
    expected = [run("generate", "Hi", *base, "--seed", seed).stdout for seed in (5, 6)]
    typed = "/seed 5\nHi\n/reset\n/seed 6\nHi"
    assert run("chat", *base, input=typed).stdout == "".join(expected)


def test_a_conversation_goes_on_where_it_was_saved(
    run: Any, random_folder: Path, tmp_path: Path
) -> None:
    base = ("chat", "--model", random_folder, "--max-tokens", 8, "--seed", 3)
    file = tmp_path / "talk.json"
    both = run(*base, input=f"/system Be brief.\nHi\n/save {file}\nAnd now?\n")
    assert f"saved 2 messages to {file}." in both.stderr
    saved = json.loads(file.read_text())
    assert (saved["system"], [m["role"] for m in saved["messages"]]) == (
        "Be brief.",
        ["user", "assistant"],
    )
    again = run(*base, "--load", file, input="And now?\n")
    assert again.exit_code == 0
    folder = saved["model"]
    assert_says(
        again.stderr.splitlines()[0], f"loaded {file}: 2 messages ... {folder} ... Be brief."
    )
    other = run(*base, "--load", file, "--system", "Be kind.", input="")
    assert_says(other.stderr[:-1], "Be brief. ... --system replaces")
    assert both.stdout.endswith(again.stdout)
    alone = run(*base, input="And now?\n")
    assert alone.stdout != again.stdout


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([{"role": "assistant", "content": "x"}], "expected the user's"),
        ([{"role": "user", "content": "x"}], "ends with a question"),
    ],
)
def test_a_conversation_out_of_turn_is_one_line(
    run: Any, tmp_path: Path, messages: list[dict[str, str]], part: str
) -> None:
    file = tmp_path / "talk.json"
    whole = {"kind": "mlx-diffgemma conversation", "version": 1, "model": "m", "system": None}
    file.write_text(json.dumps({**whole, "messages": messages}))
    assert_one_line(run(*CHAT, "--load", file, input="x"), 1, part)


def test_a_bad_file_is_found_before_the_model(run: Any, tmp_path: Path) -> None:
    done = run("chat", "--model", "no/where", "--load", tmp_path / "none.json", input="x")
    assert_one_line(done, 1, "none.json: No such file or directory")


# --- a terminal


def test_three_turns() -> None:
    with Tty(*PROGRAM, *CHAT, columns=100, rows=40) as tty:
        for turn, puzzle in enumerate((PUZZLE, EASY, PUZZLE), 1):
            answered(tty, turn)
            tty.type(f"{puzzle}\r")
            tty.until(lambda tty: tty.alternate and GRID_TOP in tty.text())
        answered(tty, 4)
        tty.type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()
        assert tty.entered == 3
        shown = tty.scrollback()
    first = "tiny-sudoku, context 512. /help lists commands, Ctrl-D leaves.\n"
    turns = [f"{p} {q}\n{SOLUTION}\n" for p, q in (("0% >", PUZZLE), ("19% >", EASY))]
    assert shown == "".join([first, *turns, f"19% > {PUZZLE}\n{SOLUTION}\n", "19% >"])


def test_editing_history_paste_and_leaving(random_folder: Path) -> None:
    steps = [  # what is typed, and what it makes the chat say
        ("/sead\x7f\x7fed 5\r", "seed: 5."),  # two backspaces
        ("\x1b[A\x7f7\r", "seed: 7."),  # the line before, changed
        ("/system one\x1b\rtwo\r", "system text: one two"),  # Alt-Enter, or Esc and Enter
        ("/system two\nthree\r", "system text: two three"),  # Ctrl-J
        ("/system one\x1b\nsix\r", "system text: one six"),  # a terminal whose Enter is a line feed
        ("\x1b[200~/system three\nfour\x1b[201~\r", "system text: three four"),
        ("/system five\\\rsix\r", "system text: five six"),
        ("nothing\x03", "Ctrl-D or /quit leaves."),
    ]
    with Tty(*PROGRAM, "chat", "--model", random_folder) as tty:
        for number, (typed, said) in enumerate(steps, 1):
            answered(tty, number).type(typed)
            tty.until(said)
        answered(tty, len(steps) + 1).type("/qu\t")
        tty.until(lambda tty: tty.text().endswith("% > /quit"))
        tty.type("\r")
        assert tty.wait() == 0
        tty.assert_given_back()


def test_ctrl_c_stops_the_answer_and_keeps_what_is_finished(
    run: Any, random_folder: Path, tmp_path: Path
) -> None:
    base = ("--model", random_folder, "--seed", 3)
    first = run("generate", "Hi", *base, "--max-tokens", 8).stdout
    log, file = tmp_path / "log", tmp_path / "talk.json"
    with paused(log, "chat", *base, "--max-tokens", 40, at="1 0", seconds=0.3) as tty:
        answered(tty, 1)
        tty.type("Hi\r")
        tty.until(lambda tty: tty.alternate and "canvas 2" in tty.text())
        assert tty.text().startswith("> Hi")
        tty.type("\x03")
        tty.until("interrupted: 1 canvas finished.\n/more goes on with it.")
        tty.type(f"/save {file}\r")
        tty.until("saved 2 messages")
        answered(tty, 3).type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()
    assert json.loads(file.read_text())["messages"][1]["content"] + "\n" == first


@pytest.mark.slow
def test_what_is_typed_while_it_answers_is_the_next_line(tmp_path: Path) -> None:
    """Nothing of it shows in the view, and Enter is Enter."""
    log = tmp_path / "log"
    with paused(log, *CHAT) as tty:
        answered(tty, 1).type(f"{PUZZLE}\r")
        tty.until(lambda tty: tty.alternate and " of 48" in tty.text())
        tty.type("/seed 5\r/seed 7")
        go_on(log)
        tty.until("seed: 5;").until("% > /seed 7").type("\r")
        assert b"/seed" not in tty.bytes.partition(b"\x1b[?1049l")[0]
        tty.until("seed: 7;")
        answered(tty, 4).type("QUIT\r")
        assert tty.wait() == 0
        tty.assert_given_back()


def test_what_is_typed_before_the_first_question_is_asked() -> None:
    """The kernel makes a line feed of Enter then."""
    with Tty(*PROGRAM, *CHAT) as tty:
        tty.type("/seed 5\r")
        tty.until("seed: 5.")
        answered(tty, 2).type("\x04")
        assert tty.wait() == 0


@pytest.mark.slow
def test_a_draft_stays_on_the_screen_and_out_of_the_conversation(
    random_folder: Path, tmp_path: Path
) -> None:
    slow = ("--steps", 90, "--stability", 99)  # in one canvas
    base = ("--model", random_folder, "--seed", 3, "--max-tokens", 8, *slow)
    with paused(tmp_path / "log", "chat", *base) as tty:
        answered(tty, 1).type("Hi\r")
        tty.until(lambda tty: tty.alternate and " of 90" in tty.text())
        tty.type("\x03")
        tty.until("draft, canvas 1 after step").until("no canvases finished")
        assert b"\x1b[2m" in tty.bytes.rpartition(b"draft, canvas 1")[2]
        answered(tty, 2).type(f"/save {tmp_path / 'talk.json'}\r")
        tty.until("saved 0 messages")
        answered(tty, 3).type("\x04")
        assert tty.wait() == 0


@pytest.mark.slow
def test_a_thought_is_folded(random_folder: Path) -> None:
    """The model is told what to say: the asset has no thoughts."""
    code = THINKING + PACED.partition("import mlx_diffgemma.conversation.turn as turn")[2]
    chat = ("chat", "--model", random_folder, "--max-tokens", 8)
    with Tty("-c", code, 0.1, "", "/dev/null", *chat) as tty:
        answered(tty, 1)
        tty.type("Hi\r")
        tty.until("(a thought of 2 words; /think shows it)")
        assert "Hello." in tty.text()
        assert "deep thought" not in tty.text()
        tty.type("/think\r")
        tty.until("deep thought")
        answered(tty, 3).type("/quit\r")
        assert tty.wait() == 0


THINKING = """
import os, sys, time
import mlx_diffgemma.conversation.turn as turn
from mlx_diffgemma.text.answer import Answer
turn.AnswerReader.answer = lambda _: Answer("Hello.", "deep thought", ())
"""


@pytest.mark.parametrize(
    "sent", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_signals_at_the_prompt(sent: signal.Signals) -> None:
    with Tty(*PROGRAM, *CHAT) as tty:
        answered(tty, 1)
        tty.send(sent)
        if sent == signal.SIGINT:
            answered(tty, 2).type("\x04")
        assert tty.wait() == (143 if sent == signal.SIGTERM else 0)
        tty.assert_given_back()


@pytest.mark.slow
def test_a_terminal_that_nobody_reads_keeps_no_chat() -> None:
    """A further SIGTERM ends what hangs, and typing in the shell shows again."""
    with Tty(*PROGRAM, *CHAT) as tty:
        answered(tty, 1)
        pump(tty, 0.3)
        termios.tcflow(tty.theirs, termios.TCOOFF)
        assert ended_by_signals(tty) in (143, -signal.SIGTERM)
        termios.tcflow(tty.theirs, termios.TCOON)
        local = termios.tcgetattr(tty.theirs)[3]
        assert local & termios.ECHO
        assert local & termios.ICANON


@pytest.mark.slow
def test_sigterm_in_an_answer_ends_the_chat(tmp_path: Path) -> None:
    with paused(tmp_path / "log", *CHAT) as tty:
        answered(tty, 1)
        tty.type(f"{PUZZLE}\r")
        tty.until(lambda tty: tty.alternate)
        tty.send(signal.SIGTERM)
        assert tty.wait() == 143
        tty.assert_given_back()


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"TERM": "dumb"}, marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow),
        pytest.param({"LC_ALL": "C"}, marks=pytest.mark.slow),
        pytest.param({"NO_COLOR": "1"}, marks=pytest.mark.slow),
    ],
)
def test_other_terminals(env: dict[str, str]) -> None:
    with Tty(*PROGRAM, *CHAT, columns=100, env=env) as tty:
        answered(tty, 1)
        tty.type(f"{PUZZLE}\r")
        answered(tty, 2)
        tty.type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()
        assert SOLUTION in tty.scrollback()
        assert tty.entered == (0 if env.get("TERM") == "dumb" else 1)


@pytest.mark.parametrize(("columns", "rows"), [(20, 6), pytest.param(5, 2, marks=pytest.mark.slow)])
def test_small_windows(columns: int, rows: int) -> None:
    with Tty(*PROGRAM, *CHAT, columns=columns, rows=rows) as tty:
        tty.until(lambda tty: ">" in tty.text())
        tty.type("/seed\r")
        tty.until(lambda tty: "seed:1." in "".join(tty.scrollback().split()))
        tty.until(lambda tty: tty.scrollback().count(">") == 2)
        tty.type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.slow
def test_a_line_that_is_not_utf8_is_refused_and_the_chat_goes_on(tmp_path: Path) -> None:
    """Such a system text could be neither asked with nor saved."""
    with Tty(*PROGRAM, *CHAT) as tty:
        answered(tty, 1)
        os.write(tty.ours, b"/system Gr\xfc\xdfe\r")
        tty.until("UTF-8 (byte 0xfc)")
        answered(tty, 2).type("/system\r")
        tty.until("system text: none")
        answered(tty, 3).type("\x04")
        assert tty.wait() == 0


@pytest.mark.slow
def test_without_standard_error_the_prompt_is_nowhere() -> None:
    """Standard output is for answers."""
    code = "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    with Tty("-c", code, *PROGRAM, *CHAT) as tty:
        pump(tty, 1)
        tty.type(f"{PUZZLE}\n\x04")
        assert tty.wait() == 0
        assert "% >" not in tty.scrollback()
        assert SOLUTION[:-1] in tty.scrollback()


@pytest.mark.slow
def test_ctrl_z_at_the_prompt(random_folder: Path) -> None:
    """Back to the shell with its echo, and on again with the line as it was."""
    shell = "import os; os.environ['PS1'] = '$ '; os.execvp('bash', ['bash', '--norc', '-i'])"
    chat = shlex.join(map(str, (sys.executable, *PROGRAM, "chat", "--model", random_folder)))
    with Tty("-c", shell, columns=200, rows=40) as tty:
        tty.until("$").type(f"{chat} --seed 5\r")
        answered(tty, 1).type("/se\x1a")
        tty.until("Stopped").type("echo $((6*7)); fg\r")
        tty.until("\n42\n")
        answered(tty, 1).type("ed\r")
        tty.until("seed: 5.")
        answered(tty, 2).type("\x04")
        tty.until(lambda tty: tty.text().endswith("$")).type("exit\r")
        assert tty.wait() == 0


@pytest.mark.slow
def test_ctrl_c_at_random_moments_never_ends_a_chat(tmp_path: Path) -> None:
    """Whatever Ctrl-C hits, the next command is answered and the terminal comes back."""
    chance = random.Random(3)
    with paced(0.02, tmp_path / "log", *CHAT) as tty:
        answered(tty, 1)
        for number in range(100, 125):
            tty.type(f"{chance.choice((PUZZLE, EASY, '/stats', 'hello'))}\r")
            for _ in range(chance.randrange(1, 4)):
                pump(tty, chance.uniform(0, 0.3))
                tty.send(signal.SIGINT)
            pump(tty, 0.5)  # what is typed while nobody edits may be lost
            tty.type(f"\x03/seed {number}\r")
            tty.until(lambda tty, number=number: f"seed: {number}" in tty.scrollback())
            assert not tty.alternate
            pump(tty, 0.1)
        tty.type("\x04")
        assert tty.wait() == 0
        tty.assert_given_back()


@pytest.mark.slow
def test_bursts_of_signals(tmp_path: Path) -> None:
    """The editor starts and ends among them, too: nothing is said but what belongs there."""
    chance = random.Random(4)
    for _ in range(6):
        with paced(0.01, tmp_path / "log", *CHAT) as tty:
            answered(tty, 1)
            for _ in range(6):
                tty.type(f"{chance.choice((PUZZLE, EASY, '/stats', 'hello'))}\r")
                for _ in range(chance.randrange(1, 25)):
                    pump(tty, chance.uniform(0, 0.02))
                    tty.send(signal.SIGINT)
                pump(tty, chance.uniform(0, 0.3))
            tty.send(signal.SIGTERM)
            assert tty.wait() == 143
            tty.assert_given_back()


def pump(tty: Tty, seconds: float) -> None:
    """Lets time pass."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tty.pump(0.01)
