"""The data that teaches tiny-chat a new form: seeded, readable, and without what is tested."""

import json
import sys
from pathlib import Path

import pytest

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.finetune.data.examples import read_examples
from mlx_diffgemma.text.tokenizer import load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import make_lesson
from tiny_chat.example import Example
from tiny_chat.lessons import (
    LESSONS,
    is_kept,
    known,
    known_tests,
    learned,
    line,
    questions,
    roman,
)
from tiny_chat.skills import SKILLS

FOLDER = embedded_folder("tiny-chat")
assert FOLDER
CONFIG = read_config(FOLDER)


def test_numbers_in_roman_numerals() -> None:
    written = {1: "I", 4: "IV", 9: "IX", 14: "XIV", 40: "XL", 49: "XLIX", 88: "LXXXVIII"}
    assert {n: roman(n) for n in written} == written
    assert len({roman(n) for n in range(1, 100)}) == 99


def question(example: Example) -> str:
    content: str = example.messages[-1]["content"]
    return content


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_content_of_a_test_is_learned(lesson: str) -> None:
    taught, asked = learned(lesson, 100, 0), questions(lesson, 30)
    assert len({question(example) for example in asked}) == 30
    assert all(is_kept(example) for example in asked)
    assert {example.key for example in taught}.isdisjoint(example.key for example in asked)
    assert all(len(example.answer) < CONFIG.canvas_length for example in (*taught, *asked))


def test_every_form_of_a_digit_is_learned() -> None:
    """Numbers that are tested are made of tens and ones that others have."""
    taught = {int(example.key or 0) for example in learned("roman", 1000, 0)}
    for n in {int(example.key or 0) for example in questions("roman", 60)}:
        assert n not in taught
        assert any(m // 10 == n // 10 for m in taught)
        assert any(m % 10 == n % 10 for m in taught)


def test_what_is_known_has_all_skills_and_its_tests_one_right_answer() -> None:
    kept = known(400, 0)
    plain = {skill for skill in SKILLS if not skill.startswith("thinking")}
    assert {example.skill for example in kept} == plain
    assert any(example.think for example in kept)
    assert not any(is_kept(example) for example in kept)
    assert {example.skill for example in known_tests(1)} == plain - {"story"}


def test_lines_are_read_as_the_checkpoint_was_trained(tmp_path: Path) -> None:
    """Prompt and answer as its own texts: thoughts, tools, calls and results among them."""
    examples = [*known(60, 0), *known_tests(1), *learned("dots", 3, 0), *learned("roman", 3, 0)]
    assert {"tool call", "tool answer"} <= {example.skill for example in examples}
    assert any(example.think for example in examples)
    file, tokenizer = tmp_path / "train.jsonl", load_tokenizer(FOLDER)
    make_lesson.write(file, examples)
    for example, read in zip(
        examples, read_examples(file, tokenizer, CONFIG).examples, strict=True
    ):
        prompt = tokenizer.encode(example.prompt(tokenizer))
        answer = tokenizer.encode(example.expected + example.end)
        ids = read.ids.tolist()
        assert ids[: read.prompt] == prompt
        assert ids[read.prompt :][: len(answer)] == answer
        assert set(ids[read.prompt + len(answer) :]) <= {1}


def test_the_same_seed_makes_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name in ("one", "two"):
        numbers = ["--number", "5", "--tests", "2", "--known-tests", "1", "--seed", "3"]
        monkeypatch.setattr(sys, "argv", ["x", "dots", str(tmp_path / name), *numbers])
        make_lesson.main()
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert sorted(made[0]) == ["known-test.jsonl", "known.jsonl", "test.jsonl", "train.jsonl"]
    assert made[0] == made[1]
    first = json.loads(made[0]["train.jsonl"].splitlines()[0])
    assert first["skill"] == "dots"
    assert first["messages"][-1]["role"] == "assistant"
    assert first == line(learned("dots", 1, 3)[0]) != line(learned("dots", 1, 4)[0])
