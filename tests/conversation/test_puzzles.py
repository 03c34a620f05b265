"""The embedded checkpoint: every puzzle starts anew, and its answer gets a verdict."""

from dataclasses import replace

import pytest
from facts import assert_says, raises

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.errors import PromptError

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
EASY = "".join("." if i % 10 in (0, 4, 8) else cell for i, cell in enumerate(SOLUTION))  # unique
SEED = dg.Settings(seed=7)


@pytest.fixture(scope="module")
def solver() -> Session:
    return dg.load("tiny-sudoku")


def finished(session: Session, prompt: str) -> Turn:
    turn = session.turn(prompt, settings=SEED)
    for _ in turn:
        pass
    return turn


def rows(grid: str) -> str:
    return "\n".join(grid[start : start + 9] for start in range(0, 81, 9))


def test_a_puzzle_is_solved_and_the_answer_ends_with_the_stop_id(solver: Session) -> None:
    turn = finished(solver, EASY)
    reply = turn.reply()
    assert reply.text == rows(SOLUTION)
    assert turn.problem() is None
    assert (reply.finish_reason, reply.token_ids[-1]) == ("stop", 1)
    assert (reply.prompt_tokens, reply.generated_tokens, reply.canvases) == (98, 90, 1)
    assert reply.steps[0] < 48


def test_a_second_puzzle_does_not_continue_the_first(solver: Session) -> None:
    first = finished(solver, EASY)
    other = EASY.replace("5", "x").replace("3", "5").replace("x", "3")
    second = finished(solver, other)
    assert solver.history == []
    assert len(second.prompt_ids) == len(first.prompt_ids) == 98
    fresh = replace(solver, conversation=Conversation())
    assert finished(fresh, other).reply().token_ids == second.reply().token_ids
    assert second.problem() is None
    assert second.reply().text != first.reply().text


def test_the_same_puzzle_again_is_the_same_answer(solver: Session) -> None:
    assert finished(solver, EASY).reply().text == finished(solver, EASY).reply().text


def test_a_puzzle_may_be_typed_in_any_form(solver: Session) -> None:
    ids = solver.turn(PUZZLE).prompt_ids
    assert solver.turn(rows(PUZZLE.replace(".", "0"))).prompt_ids == ids


@pytest.mark.parametrize(
    ("prompt", "facts"),
    [
        ("hello", "'h' at line 1, character 1 ... puzzle"),
        (PUZZLE[:80], "80 of 81 cells"),
        ("5" + PUZZLE[1:8] + "5" + PUZZLE[9:], "no solution ... row 1 ... 5s"),
    ],
)
def test_what_is_no_puzzle_is_refused(solver: Session, prompt: str, facts: str) -> None:
    with raises(PromptError, facts):
        solver.ask(prompt)


def test_an_answer_that_is_none_gets_its_reason(solver: Session) -> None:
    turn = solver.turn(PUZZLE, settings=replace(SEED, max_tokens=12))
    for _ in turn:
        pass
    assert turn.problem() == "the answer has 11 digits, expected 81"


def test_a_raw_prompt_is_no_puzzle(solver: Session) -> None:
    turn = solver.turn("hello", raw=True, settings=replace(SEED, max_denoising_steps=1))
    assert list(turn)
    assert len(turn.prompt_ids) == 5
    assert turn.problem() is None


def test_a_session_without_a_task_has_no_verdict(session: Session) -> None:
    turn = session.turn("Hello", settings=replace(SEED, max_tokens=8))
    assert list(turn)
    assert turn.problem() is None


def test_a_puzzle_under_a_system_text_says_that_it_is_untrained(solver: Session) -> None:
    """It is in the prompt, and some puzzles are no longer solved."""
    plain, told = solver.turn(PUZZLE), solver.turn(PUZZLE, system="Be brief.", think=True)
    assert plain.notes == ()
    assert len(told.prompt_ids) > len(plain.prompt_ids)
    ignored, untrained = told.notes
    assert_says(ignored, "the chat template ignores think")
    assert_says(untrained, "trained without a system text")
    form = PUZZLE.replace(".", "[[1]]")
    assert solver.fill_turn(form, system="Be brief.").notes == (untrained,)
    assert solver.turn("hello", raw=True).notes == ()
    solver.system = None
