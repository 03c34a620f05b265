"""`/mode`: the next question in another mode, and the conversation goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facts import assert_says

import mlx_diffgemma as dg
from mlx_diffgemma.cli.chat.slash import completions
from mlx_diffgemma.cli.chat.talk import Talk
from mlx_diffgemma.conversation.session import Session


@pytest.fixture(scope="module")
def session(random_folder: Path) -> Session:
    return dg.load(random_folder)


def test_what_a_mode_does_not_have_rests_until_it_is_back(session: Session) -> None:
    talk = Talk(session, dg.Settings(seed=3, t_min=0.1, mode="auto", top_k=0, auto_times=(1, 2)))
    before = talk.settings
    talk.set_mode("ar")
    assert talk.settings == dg.Settings(seed=3, mode="ar", top_k=0)
    assert talk.resting == {"t_min": 0.1, "auto_times": (1.0, 2.0)}
    talk.settings = replace(talk.settings, seed=4)
    talk.set_mode("diffusion")
    assert talk.settings == dg.Settings(seed=4, t_min=0.1)
    talk.set_mode("auto")
    assert (talk.settings, talk.resting) == (replace(before, seed=4), {})


def test_a_chat_that_changes_its_mode_goes_on(run: Any, random_folder: Path) -> None:
    command = ("chat", "--model", random_folder, "--seed", 1, "--max-tokens", 3, "--steps", 2)
    lines = ("/mode ar", "Hi", "/stats", "/mode diffusion", "/mode ar", "/mode", "/mode AR", "Yo")
    done = run(*command, input="\n".join(lines))
    assert len(done.stdout.splitlines()) >= 2
    said = iter(done.stderr.splitlines())
    assert_says(next(said), "mode: ar, token by token")
    assert_says(next(said), "note: not used in mode ar: --steps")
    assert_says(next(said), "cut at 3 tokens")
    assert_says(next(said), "context: ... of ... positions")
    assert_says(next(said), "3 tokens in ... s ... tokens/s ... ar ... seed 1")
    assert_says(next(said), "3 tokens by ar ... tokens/s")
    assert_says(next(said), "prompt ... tokens ... commit 0.00 ... write")
    next(said)
    assert_says(next(said), "mode: diffusion, canvas by canvas")
    assert_says(next(said), "mode: ar")  # --steps has been said
    assert_says(next(said), "mode: ar")
    assert_says(next(said), "error: /mode takes diffusion, ar, auto or nothing, got 'AR'")
    assert_says(next(said), "cut at 3 tokens")
    assert list(said) == []


def test_a_checkpoint_that_has_no_other_mode_refuses_it(run: Any) -> None:
    done = run("chat", "--model", "tiny-sudoku", input="/mode ar\n/mode\n")
    refused, stays = done.stderr.splitlines()
    assert_says(refused, "error: tiny-sudoku ... next-token loss ... /mode is ar ... diffusion")
    assert_says(stays, "mode: diffusion")


def test_modes_are_completed() -> None:
    assert {"/mode", "/mode diffusion", "/mode ar", "/mode auto", "/help"} <= set(completions())
