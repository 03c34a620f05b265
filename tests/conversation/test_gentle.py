"""A session with pauses writes what one without them does."""

import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.diffusion import pipeline


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_pauses_do_not_change_a_text(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "runs_ahead", lambda: True)
    replies = {}
    for gentle in (False, True):
        session = dg.load("tiny-chat", gentle=gentle)
        if pauses := session.model.pauses:
            pauses.sleep = lambda seconds: None
        replies[gentle] = session.ask("What is 17 + 25?", seed=3, mode=mode, temperature=None)
    assert replies[True].token_ids == replies[False].token_ids
    assert replies[True].steps == replies[False].steps
    assert pauses is not None
    assert pauses.seconds > 0


def test_a_pause_comes_behind_every_kind_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompt, steps and tokens: whichever took the GPU whole would stall the screen."""
    session = dg.load("tiny-chat", gentle=True)
    pauses = session.model.pauses
    assert pauses is not None
    pauses.sleep, pauses.piece_seconds = lambda seconds: None, 0.0  # each layer is a piece
    prefix = session.model.encode([2, 3, 4])
    before = pauses.seconds
    assert before > 0
    session.model.decode([5] * session.model.config.canvas_length, prefix)
    assert pauses.seconds > before
    before = pauses.seconds
    session.model.step(5, prefix)
    assert pauses.seconds > before
