"""What is run: shipped prompts, contexts of a given length, and what is refused."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from facts import raises

import mlx_diffgemma as dg
from mlx_diffgemma.assets.sudoku import SudokuTask
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.profile.workload import (
    Workload,
    first_questions,
    questions,
    shipped_prompts,
    subject_of,
)


def test_twenty_prompts_of_many_kinds_with_their_licence() -> None:
    prompts = shipped_prompts()
    assert len(prompts) == 20
    assert len({prompt.name for prompt in prompts}) == 20
    assert len({prompt.kind for prompt in prompts}) >= 12
    assert {prompt.licence for prompt in prompts} == {"Apache-2.0"}
    assert all(prompt.text.strip() and prompt.answer.strip() for prompt in prompts)


def test_twenty_puzzles_with_their_solutions() -> None:
    puzzles, task = shipped_prompts("puzzles"), SudokuTask()
    assert len(puzzles) == 20
    assert [task.problem(puzzle.text, puzzle.answer) for puzzle in puzzles] == [None] * 20


def test_tiny_chat_is_asked_what_it_was_trained_on() -> None:
    """And so is a copy of it, whatever its folder is called."""
    chat = shipped_prompts("chat")
    assert len({prompt.name for prompt in chat}) == len(chat) == 20
    assert len({prompt.kind for prompt in chat}) >= 10
    session = dg.load("tiny-chat")
    assert subject_of(session) == "chat"
    asked = first_questions(session, Workload(steps=None))
    assert [question.prompt for question in asked[:20]] == list(chat)
    ids = [id for prompt in chat for id in session.tokenizer.encode(prompt.text + prompt.answer)]
    assert session.tokenizer.encode("\u00e9")[0] not in ids  # <unk>


def test_fixed_steps_take_one_prompt_and_a_seed_a_canvas(sudoku: Session) -> None:
    asked = first_questions(sudoku, Workload(steps=7, canvases=6, seed=3))
    assert [question.settings.seed for question in asked] == [3, 4, 5, 6, 7, 8]
    assert {question.prompt.name for question in asked} == {asked[0].prompt.name}
    settings = asked[0].settings
    assert (settings.max_tokens, settings.max_denoising_steps) == (90, 7)
    assert len(asked[0].tokens) == len(sudoku.turn(asked[0].prompt.text).prompt_ids)


def test_adaptive_takes_every_prompt_with_every_seed(sudoku: Session) -> None:
    workload = Workload(steps=None, prompts=3, seeds=2)
    asked = first_questions(sudoku, workload)
    assert [question.settings.seed for question in asked] == [0, 0, 0, 1, 1, 1]
    assert len({question.prompt.name for question in asked}) == 3
    further = next(islice(questions(sudoku, workload), 6, None))
    assert (further.prompt, further.settings.seed) == (asked[0].prompt, 2)
    assert len(first_questions(sudoku, Workload(steps=None))) == 60
    generated = sudoku.turn(asked[0].prompt.text, settings=dg.Settings(seed=0))
    assert asked[0].settings == generated.settings
    assert asked[0].sampler == generated.sampler


@pytest.mark.parametrize("steps", [4, None])
def test_a_context_is_filled_with_text(deep: Session, steps: int | None) -> None:
    (question, *_) = first_questions(deep, Workload(steps=steps, context=900))
    own = deep.turn(question.prompt.text).prompt_ids
    assert len(question.tokens) == 900
    assert question.tokens[:1] == tuple(own[:1])
    assert question.tokens[-len(own) + 1 :] == tuple(own[1:])
    assert len(set(question.tokens)) > 30


def test_the_default_context_is_what_the_model_holds(deep: Session, sudoku: Session) -> None:
    assert len(first_questions(deep, Workload())[0].tokens) == 1024
    assert len(first_questions(deep, Workload(context=2040))[0].tokens) == 2040
    assert len(first_questions(sudoku, Workload(context=422))[0].tokens) == 422


def test_a_checkpoint_without_a_template_gets_the_prompts_raw(deep_folder: Path) -> None:
    session = dg.load(deep_folder)
    tokenizer = replace(session.tokenizer, chat_template=None)
    session.tokenizer = tokenizer
    question = first_questions(session, Workload(context=500))[0]
    assert question.tokens[-5:] == tuple(session.tokenizer.encode(question.prompt.text)[-5:])


REFUSED = [
    ({"steps": 0}, "--steps is 0 ... from 1 ... adaptive"),
    ({"canvases": 4}, "--canvases is 4 ... at least 5"),
    ({"steps": None, "prompts": 2, "seeds": 2}, "--prompts times --seeds ... 4 ... at least 5"),
    ({"steps": None, "prompts": 21}, "--prompts is 21 ... at most 20"),
    ({"steps": None, "seeds": 0}, "--seeds is 0 ... at least 1"),
    ({"context": 0}, "--context is 0 ... at least 1"),
]


@pytest.mark.parametrize(("fields", "facts"), REFUSED)
def test_what_says_nothing_is_refused(fields: dict[str, int], facts: str) -> None:
    with raises(dg.SettingsError, facts):
        Workload(**fields)  # type: ignore[arg-type]


def test_contexts_a_model_cannot_hold_are_refused(sudoku: Session, deep: Session) -> None:
    with raises(dg.SettingsError, "--context is 423 ... at most 422 ... canvas of 90"):
        first_questions(sudoku, Workload(context=423))
    with raises(dg.SettingsError, "--context is 10 ... at least the 98 tokens"):
        first_questions(sudoku, Workload(context=10))
    with pytest.raises(dg.SettingsError, match="seed is -1"):
        first_questions(deep, Workload(seed=-1))
    with pytest.raises(dg.SettingsError, match=r"the 525 tokens of the prompt 'summary'"):
        first_questions(deep, Workload(steps=None, context=400))


def test_memory_is_asked_for_the_whole_context(deep_folder: Path) -> None:
    session, asked = dg.load(deep_folder), list[int]()
    session.require_room = asked.append
    first_questions(session, Workload(context=1000))
    assert max(asked) == 1008
