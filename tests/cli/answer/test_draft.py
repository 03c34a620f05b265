"""The canvas in work: what of it is worth keeping, and what of it belongs to the answer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlx_diffgemma as dg
from mlx_diffgemma.cli.answer.draft import Draft
from mlx_diffgemma.cli.terminal.streams import harmless
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.generation.frame import Frame


@pytest.fixture(scope="module")
def session(random_folder: Path) -> Session:
    return dg.load(random_folder)


def frames(session: Session, *stops: str, max_tokens: int = 16) -> Iterator[tuple[Draft, Frame]]:
    """Each frame of an answer, once the draft has taken it."""
    session.reset()
    settings = dg.Settings(seed=3, max_tokens=max_tokens, stop=stops)
    turn = session.turn("Hi", settings=settings)
    draft = Draft(turn)
    for frame in turn:
        draft.take(frame)
        yield draft, frame


def test_the_last_draft_of_a_canvas_is_what_it_adds_to_the_answer(session: Session) -> None:
    texts: list[str] = []
    for draft, frame in frames(session):
        if frame.committed:
            assert draft.text() == ""
            assert draft.turn.reply().text == "".join(texts[2::3])
        else:
            texts.append(draft.text())
            assert draft.place() == f"canvas {frame.canvas + 1} after step {frame.step + 1} of 3"
    assert len(texts) == 6


def test_a_draft_takes_no_more_tokens_than_the_answer(session: Session) -> None:
    whole = [draft.text() for draft, frame in frames(session) if not frame.committed]
    less = [draft.text() for draft, frame in frames(session, max_tokens=10) if not frame.committed]
    assert less[:3] == whole[:3]
    assert all(text.startswith(part) for text, part in zip(whole[3:], less[3:], strict=True))
    assert max(map(len, less[3:])) == 2  # a token is a character here


def test_a_draft_ends_at_a_stop_text(session: Session) -> None:
    draft, _ = next(frames(session))
    text = draft.text()
    assert len(text) > 4
    draft, _ = next(frames(session, text[2:4]))
    assert draft.text() == text[: text.index(text[2:4])]


@pytest.mark.parametrize(("nats", "kept"), [(2.9, True), (3.0, False), (12.5, False)])
def test_noise_is_no_draft(session: Session, nats: float, kept: bool) -> None:
    draft, frame = next(frames(session))
    draft.take(replace(frame, entropies=frame.entropies * 0 + nats))
    assert bool(draft.text()) == kept


def test_a_draft_survives_an_error(
    run: Any, random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx_diffgemma.conversation.turn as turn

    usual = turn.generate

    def broken(*arguments: Any, **options: Any) -> Iterator[Frame]:
        for frame in usual(*arguments, **options):
            if frame.step == 2:
                raise MemoryError
            yield frame

    monkeypatch.setattr(turn, "generate", broken)
    command = ("generate", "Hi", "--model", random_folder, "--seed", 3, "--max-tokens", 8)
    done = run(*command)
    assert (done.exit_code, done.stdout) == (1, "")
    label, *draft, last = done.stderr.splitlines()
    assert label == "draft, canvas 1 after step 2 of 3:"
    assert last.startswith("error: out of memory")
    kept = run(*command, "--keep-draft")
    assert kept.exit_code == 1
    assert harmless(kept.stdout).splitlines() == draft


def test_tokens_of_mode_ar_are_no_draft(session: Session) -> None:
    session.reset()
    turn = session.turn("Hi", settings=dg.Settings(seed=3, max_tokens=4, mode="ar"))
    draft = Draft(turn)
    for number, frame in enumerate(turn, 1):
        draft.take(frame)
        assert draft.text() == ""
        assert len(turn.reply().text) == min(number, 4)  # a token is a character here
