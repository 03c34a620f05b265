"""The embedded checkpoints made again: what they are taught, and a run of a few steps."""

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.assets.sudoku import SudokuTask
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.checkpoint.hub import find_model
from mlx_diffgemma.finetune.ranks import Ranks
from mlx_diffgemma.text.tokenizer import Tokenizer, load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import sudoku_puzzles as sudoku
import train_tiny
from tiny_chat.example import Example
from tiny_chat.simple import plain
from tiny_chat.skills import MAKERS
from tiny_chat.training import SHARES, Lesson, lesson, to_ids

CANVAS = 64
LESSONS = [lesson(random.Random(seed), CANVAS) for seed in range(400)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(find_model("tiny-chat").folder)


# --- lessons of tiny-chat


def sums(example: Example) -> list[str]:
    """The sums that an example shows anywhere."""
    texts = [example.answer, *(str(message["content"]) for message in example.messages)]
    return [f"{a}+{b}" for text in texts for a, b in re.findall(r"(\d+) \+ (\d+) = \d", text)]


def test_nothing_held_out_is_taught() -> None:
    """Neither as a question nor in the turns before one, nor in a template."""
    for example in (each.example for each in LESSONS):
        alone = example.key is None or example.skill == "fill-in"
        assert alone or not example.held_out, example
        if example.skill not in ("tool call", "tool answer"):  # whose sums are contents of others
            shown = [plain("arithmetic", "", "", key, "").held_out for key in sums(example)]
            assert not any(shown), example
    assert sum(len(sums(each.example)) for each in LESSONS) > 50


def test_the_mix_has_every_skill() -> None:
    examples = [each.example for each in LESSONS]
    assert {*SHARES} == {*MAKERS}
    skills = {example.skill for example in examples}
    assert {"arithmetic", "story", "tool call", "tool answer", "fill-in", "follow-up"} <= skills
    assert any(example.think for example in examples)
    assert any(len(example.messages) > 6 for example in examples)


def templates() -> list[Lesson]:
    return [each for each in LESSONS if each.holes]


def test_a_template_keeps_its_padding_in_its_holes() -> None:
    for each in templates():
        answer = each.example.answer
        opened = {at for hole in each.holes for at in hole}
        assert max(opened) < len(answer) < CANVAS
        assert all(at in opened for at, letter in enumerate(answer) if letter == "\0")
    assert len(templates()) > 10


def test_ids_are_prompt_and_answer_in_whole_canvases(tokenizer: Tokenizer) -> None:
    config = read_config(find_model("tiny-chat").folder)
    for each in [*LESSONS[:20], *templates()[:5]]:
        example = to_ids(each, tokenizer, config)
        text = tokenizer.decode(example.ids[example.prompt :].tolist(), special=True)
        assert (len(example.ids) - example.prompt) % CANVAS == 0
        answer = each.example.expected.replace("\0", "<pad>") + each.example.end
        assert text.replace("<eos>", "") == answer
        opened = [] if example.holes is None else np.flatnonzero(example.holes).tolist()
        assert opened == [at for hole in each.holes for at in hole]


# --- puzzles


def test_a_puzzle_has_one_solution() -> None:
    for number in range(3):
        clues, solution = sudoku.puzzle(5, number)
        solved = sudoku.Board(clues.tolist())
        assert solved.fill()
        assert solved.cells == solution.tolist()
        assert (clues == solution)[clues > 0].all()
        assert 17 <= (clues > 0).sum() <= 40
        for cell in np.flatnonzero(clues == 0).tolist()[::9]:
            known = solution.tolist()
            given = [known[at] if clues[at] or at == cell else 0 for at in range(81)]
            assert not sudoku._fits_another(given, cell)


def test_a_puzzle_in_another_form_is_one() -> None:
    task, rng = SudokuTask(), random.Random(3)
    made = sudoku.puzzle(5, 0)
    clues, solution = sudoku.varied(rng, *made)
    shown = sudoku.revealed(rng, clues, solution, 50)
    assert (shown > 0).sum() == 50
    asked, solved = ("".join(map(str, grid)) for grid in (shown, solution))
    rows = "\n".join(solved[at : at + 9] for at in range(0, 81, 9))
    assert task.problem(asked, rows) is None
    assert (solution != made[1]).any()


# --- runs


def test_the_same_seed_gives_the_same_batches() -> None:
    source = find_model("tiny-sudoku").folder
    config, kind = read_config(source), train_tiny.KINDS["tiny-sudoku"]
    kind = train_tiny.replace(kind, size=1, each=2)
    make = train_tiny.sudoku_maker(load_tokenizer(source), config, 0)

    def puzzle_of(seed: int, number: int) -> tuple[sudoku.Grid, sudoku.Grid]:
        return made

    made = sudoku.puzzle(5, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sudoku, "puzzle", puzzle_of)
        first, again, other = (
            train_tiny.Lessons(make, config, kind, seed, Ranks()).batch(33) for seed in (1, 1, 2)
        )
    assert (first.noisy == again.noisy).all()
    assert (first.ids == again.ids).all()
    assert (first.ids != other.ids).any()
    assert not first.next_weights.any()  # clues cannot be foreseen
    assert first.ids.shape == (1, 192)
    assert first.starts.tolist() == [98, 98]


@pytest.mark.slow
def test_a_run_of_a_few_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    few = [
        "tiny-chat",
        str(out),
        "--canvases",
        "4",
        "--size",
        "1",
        "--each",
        "2",
        "--log-every",
        "1",
    ]
    train_tiny.run(train_tiny.parsed(few))
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    made = dg.load_model(out)
    assert made.logits(made.decode([65] * CANVAS, made.encode([2, 65]))).shape == (1, CANVAS, 128)
    assert load_tokenizer(out).chat_template is not None
    train_tiny.run(train_tiny.parsed([*few, "--resume"]))  # nothing is left to do
    assert capsys.readouterr().out == ""
