"""Chat's commands about the last question: asked again, taken back, gone on with, copied."""

import json
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says
from puzzle import PUZZLE, SOLUTION

from mlx_diffgemma.cli.chat import of_conversation
from mlx_diffgemma.cli.chat.slash import COLUMN, COMMANDS, KEYS, completions

Messages = list[dict[str, Any]]


@pytest.fixture
def base(random_folder: Path) -> tuple[object, ...]:
    return ("chat", "--model", random_folder, "--max-tokens", 8, "--seed", 3)


@pytest.fixture
def talked(run: Any, tmp_path: Path) -> Any:
    """Runs a chat; what it printed and said, and the messages that it held at its end."""

    def call(*base: object, lines: str) -> tuple[str, list[str], Messages]:
        file = tmp_path / "talk.json"
        done = run(*base, input=f"{lines}\n/save {file}\n")
        said = done.stderr.splitlines()[:-1]
        messages: Messages = json.loads(file.read_text())["messages"]
        return done.stdout, said, messages

    return call


# --- /retry


def test_another_seed_takes_the_answers_place(
    run: Any, talked: Any, base: Any, random_folder: Path
) -> None:
    other = run("generate", "Hi", *base[1:-1], 4).stdout
    out, _, messages = talked(*base, lines="Hi\n/retry 4")
    assert out.endswith(other)
    assert [m["content"] for m in messages] == ["Hi", other.removesuffix("\n")]
    _, said, _ = talked(*base, lines="Hi\n/retry\n/seed")
    assert "seed: 3" in said[-1]  # of the questions to come
    assert not said[-1].endswith("answer's is 3.")


def test_a_retry_that_fails_leaves_the_answer(talked: Any, base: Any) -> None:
    _, said, messages = talked(*base, lines="Hi\n/retry -1\n/retry x\n/mode auto\n/retry")
    assert sum(line.startswith("error: /retry takes a seed") for line in said) == 2
    assert len(messages) == 2
    _, said, messages = talked(*base, lines="/retry\n/undo\n/more\n/edit")
    assert [line for line in said if "nothing was asked yet" not in line] == []
    assert messages == []


@pytest.mark.slow
def test_images_are_asked_about_again(
    run: Any, talked: Any, seeing_folder: Path, photo: Path
) -> None:
    """Those that are attached meanwhile stay for the next question."""
    base = ("--model", seeing_folder, "--max-tokens", 8, "--seed")
    expected = run("generate", "What?", "--image", photo, *base, 5).stdout
    lines = f"/image {photo}\nWhat?\n/image {photo}\n/retry 5"
    out, said, messages = talked("chat", *base, 3, lines=lines)
    assert out.endswith(expected)
    assert [len(message["media"]) for message in messages] == [1, 0]
    assert sum(line.startswith("cut at 8 tokens") for line in said) == 2


@pytest.mark.slow
def test_a_puzzle_is_asked_again(talked: Any) -> None:
    """Its conversation sees no history, and the chat holds what was said all the same."""
    out, said, messages = talked(
        "chat", "--model", "tiny-sudoku", "--seed", 1, lines=f"{PUZZLE}\n/retry 2\n/undo\n{PUZZLE}"
    )
    assert out == SOLUTION * 3
    assert_says(said[-1], "taken back ... and its answer")
    assert len(messages) == 2


# --- /undo


def test_a_question_taken_back_leaves_no_trace(run: Any, talked: Any, base: Any) -> None:
    out, said, messages = talked(*base, lines="Hi\nAnd now?\n/undo\nWhy?")
    assert_says(said[-2], 'taken back: "And now?" and its answer')
    assert [m["content"] for m in messages[::2]] == ["Hi", "Why?"]
    assert out.endswith(run(*base, input="Hi\nWhy?").stdout.partition("\n")[2])


# --- /more


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_a_cut_answer_goes_on_in_one_message(talked: Any, base: Any, mode: str) -> None:
    out, said, messages = talked(*base, "--mode", mode, lines="Hi\n/more\n/more")
    first, *_ = out.splitlines()
    assert len(messages) == 2
    text = messages[1]["content"]
    assert text.startswith(first)
    assert out.replace("\n", "") == text.replace("\n", "")
    assert [line for line in said if line.startswith("cut at 8 tokens; /more")] == said


# --- /copy


def test_the_answer_or_its_code_is_copied(
    run: Any, base: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(of_conversation, "copy_text", lambda text: copied.append(text) or "copied")
    file = tmp_path / "talk.json"
    run(*base, input=f"Hi\n/copy\n/save {file}")
    content = json.loads(file.read_text())
    assert copied == [content["messages"][1]["content"]]
    content["messages"][1]["content"] = (
        "So:\n```sh\nls\n```\nor\n\n- x\n  ```\n  a\n\n    b\n  ```\n"
    )
    file.write_text(json.dumps(content))
    done = run(*base, input=f"/copy code\n/load {file}\n/copy code\n/copy all")
    assert copied[1:] == ["a\n\n  b"]
    first, *_, last = done.stderr.splitlines()
    assert_says(first, "error: no answer yet")
    assert_says(last, "error: /copy takes code or nothing ... 'all'")


# --- /load, /model


def test_a_saved_conversation_takes_this_ones_place(
    run: Any, talked: Any, base: Any, tmp_path: Path
) -> None:
    _, _, earlier = talked(*base, lines="/system Be brief.\nHi")
    file = (tmp_path / "talk.json").rename(tmp_path / "earlier.json")
    _, said, messages = talked(
        *base, lines=f"Other\n/load {file}\n/system\n/load {tmp_path}/none\n/more"
    )
    assert messages == earlier
    assert_says(said[1], f"loaded {file}: 2 messages ... Be brief.")
    assert_says(said[2], "system text: Be brief.")
    assert_says(said[3], "error: ... none: No such file")
    assert_says(said[4], "error: there is no cut answer")
    assert "/reset" not in said[4]  # there is room


def test_another_model_goes_on_with_the_conversation(
    run: Any, talked: Any, base: Any, random_folder: Path
) -> None:
    lines = f"Hi\n/model tiny-chat\nWhat is 17 + 25?\n/model {random_folder}\nAnd?\n/model no/where"
    out, said, messages = talked(*base, lines=lines)
    assert [m["content"] for m in messages[::2]] == ["Hi", "What is 17 + 25?", "And?"]
    assert_says(said[1], "model: tiny-chat, context 2,048, 8-bit")
    assert_says(said[-1], "error: no/where")
    assert len(out.splitlines()) == 3


@pytest.mark.slow
def test_a_model_takes_the_place_where_both_have_no_room(
    run: Any, talked: Any, base: Any, monkeypatch: pytest.MonkeyPatch, random_folder: Path
) -> None:
    """One that then cannot be read leaves the one before, loaded again."""
    from mlx_diffgemma.cli.chat import switch

    monkeypatch.setattr(switch, "available_memory", lambda: 1)
    _, said, messages = talked(*base, lines=f"Hi\n/model {random_folder}\n/more\nAnd?")
    assert_says(said[2], "error: there is no cut answer")
    assert len(messages) == 4
    loads, load = [], switch.load_found

    def once(*arguments: Any) -> Any:
        loads.append(arguments)
        if len(loads) == 1:
            raise OSError(5, "Input/output error", "model.safetensors")
        return load(*arguments)

    monkeypatch.setattr(switch, "load_found", once)
    _, said, messages = talked(*base, lines="Hi\n/model tiny-chat\nAnd?")
    assert_says(said[1], "the model from before is loaded again")
    assert_says(said[2], "error: model.safetensors: Input/output error")
    assert len(messages) == 4


# --- help and the tab key


def test_help_fits_a_screen_and_every_command_is_completed() -> None:
    assert len(COMMANDS) + len(KEYS) + 2 <= 24  # the line that asks for it, and the next prompt
    assert all(COLUMN + len(command.help) <= 80 for command in COMMANDS.values())
    assert all(len(line.replace("Alt-", "Option-")) <= 80 for line in KEYS)
    assert {f"/{name}" for name in COMMANDS} <= set(completions())
