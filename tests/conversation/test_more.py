"""A cut answer that goes on, a question asked again and one taken back: history and cache agree."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from compared import FEW, Spy, ask_both, assert_same_answer, frames_until_commit
from facts import raises
from small import picture, spell, talker

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import PromptError, SettingsError, TurnError
from mlx_diffgemma.text.chat import Message
from mlx_diffgemma.text.tokenizer import Tokenizer

ONE = replace(FEW, max_tokens=8)  # a canvas


def roles(session: Session) -> Sequence[str]:
    return [message.role for message in session.history]


# --- more


@pytest.mark.parametrize("mode", [pytest.param("diffusion", marks=pytest.mark.slow), "ar"])
def test_a_cut_answer_goes_on_as_one_that_was_not_cut(session: Session, mode: Any) -> None:
    """Greedy tokens depend on nothing but what is encoded; canvases have another noise."""
    settings = dg.Settings(max_tokens=16, seed=5, mode=mode)
    if mode == "ar":
        settings = replace(settings, temperature=0.0)
    whole = session.ask("Hello", settings=settings)
    session.reset()
    first = session.ask("Hello", settings=replace(settings, max_tokens=8))
    more = session.more(settings=replace(settings, max_tokens=8))
    assert (first.finish_reason, more.finish_reason) == ("length", "length")
    assert more.text.startswith(first.text)
    assert more.prompt_tokens == first.prompt_tokens + 8
    if mode == "ar":
        assert first.token_ids + more.token_ids == whole.token_ids
        assert more.text == whole.text
    assert session.history == [Message("user", "Hello"), Message("assistant", more.text)]
    assert_same_answer(*ask_both(session, "And now?", settings=FEW))


def test_what_goes_on_encodes_the_last_canvas_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = Spy(session, monkeypatch).calls
    reply = session.ask("Hello", settings=FEW)
    encoded.clear()
    next(iter(session.more_turn(settings=ONE)))
    assert encoded == [list(reply.token_ids[16:])]


@pytest.mark.slow
def test_an_answer_goes_on_twice_in_other_modes(session: Session) -> None:
    first = session.ask("Hello", settings=replace(FEW, max_tokens=5))
    second = session.more(mode="ar", max_tokens=3, temperature=0.0)
    third = session.more(settings=ONE)
    assert third.text.startswith(second.text)
    assert second.text.startswith(first.text)
    assert third.prompt_tokens == first.prompt_tokens + 8
    assert roles(session) == ["user", "assistant"]
    assert session.history[1].content == third.text


def test_an_interrupted_answer_goes_on_behind_what_is_finished(session: Session) -> None:
    frames = session.stream("Hello", settings=FEW)
    frames_until_commit(frames, 1)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    kept = session.history[1].content
    more = session.more(settings=ONE)
    assert more.text.startswith(kept)
    assert len(more.text) > len(kept)
    assert roles(session) == ["user", "assistant"]


def test_what_goes_on_and_is_given_up_leaves_the_answer_as_it_was(session: Session) -> None:
    session.ask("Hello", settings=ONE)
    before = list(session.history)
    turn = session.more_turn(settings=ONE)
    next(iter(turn))
    del turn
    assert session.history == before
    assert session.more(settings=ONE).text.startswith(before[1].content)


@pytest.mark.slow
def test_another_question_while_an_answer_goes_on_sees_it_once(session: Session) -> None:
    session.ask("Hello", settings=ONE)
    frames = iter(session.more_turn(settings=FEW))
    frames_until_commit(frames, 1)
    turn = session.turn("And now?", settings=FEW)
    assert roles(session) == ["user", "assistant"]
    assert "".join(map(chr, turn.prompt_ids)).count("Hello") == 1


def test_a_thought_that_was_cut_goes_on_as_a_thought(tokenizer: Tokenizer) -> None:
    script = spell(tokenizer, "<|channel>", "thought", "\nab", "<channel|>", "Yes", "<end>")
    session = talker(tokenizer, script, canvas=4)
    first = session.ask("?", max_tokens=4)
    assert (first.text, first.thinking) == ("", "a")
    turn = session.more_turn()
    shown = "".join(frame.text for frame in turn if frame.committed)
    assert "Yes" in shown
    reply = turn.reply()
    assert (reply.text, reply.thinking, reply.finish_reason) == ("Yes", "ab", "stop")
    assert session.history[1] == Message("assistant", "Yes")


def test_a_stop_text_is_found_across_the_cut(tokenizer: Tokenizer) -> None:
    session = talker(tokenizer, spell(tokenizer, "one END two"), canvas=6)
    assert session.ask("?", max_tokens=6, stop=("END",)).text == "one EN"
    more = session.more(stop=("END",))
    assert (more.text, more.finish_reason, len(more.token_ids)) == ("one ", "stop", 1)
    session.reset()
    session.ask("?", max_tokens=12)
    with raises(SettingsError, "stop ... already"):
        session.more(stop=("END",))


def test_only_a_cut_answer_goes_on(session: Session, tokenizer: Tokenizer) -> None:
    with raises(TurnError, "no cut answer"):
        session.more()
    session.ask("Hello", settings=ONE)
    session.restore(list(session.history))
    with raises(TurnError, "no cut answer"):
        session.more()
    session.ask("Hello", settings=ONE)
    session.undo()
    with raises(TurnError, "no cut answer"):
        session.more()
    over = talker(tokenizer, spell(tokenizer, "Yes", "<end>"))
    over.ask("?")
    with raises(TurnError, "no cut answer"):
        over.more()


@pytest.mark.slow
def test_images_stay_where_an_answer_about_them_goes_on(seeing: Session) -> None:
    seeing.ask("What?", images=[picture(1)], settings=ONE)
    more = seeing.more(settings=ONE)
    assert [message.role for message in seeing.history] == ["user", "assistant"]
    assert len(seeing.history[0].media) == len(more.images) == 1
    assert_same_answer(*ask_both(seeing, "And now?", settings=FEW))


# --- instead


def test_another_question_takes_the_place_of_the_last_one(session: Session) -> None:
    first = session.ask("Hello", settings=FEW)
    session.ask("Once?", settings=FEW)
    got = session.ask("Twice?", settings=FEW, instead=True)
    assert session.history[1].content == first.text
    assert [m.content for m in session.history[2:]] == ["Twice?", got.text]
    session.restore(session.history[:2])
    assert_same_answer(got, session.ask("Twice?", settings=FEW))
    assert_same_answer(*ask_both(session, "And now?", settings=FEW))


def test_the_last_answer_stays_until_there_is_something_in_its_place(session: Session) -> None:
    session.ask("Hello", settings=FEW)
    before = list(session.history)
    frames = session.stream("Hello", settings=replace(FEW, seed=6), instead=True)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert session.history == before
    with raises(PromptError, "positions ... 4,096"):
        session.ask("x" * 5000, instead=True)
    assert session.history == before


def test_there_is_no_place_where_nothing_was_asked(session: Session) -> None:
    for call in (lambda: session.ask("Hello", instead=True), session.undo):
        with raises(PromptError, "nothing was asked"):
            call()


# --- undo


def test_a_question_taken_back_was_never_asked(session: Session) -> None:
    for number, question in enumerate(("Hello", "And now?", "Why?")):
        session.ask(question, settings=replace(FEW, seed=number), system="Be brief.")
    used = session.context_used
    assert session.undo() == Message("user", "Why?")
    assert session.context_used < used
    assert session.system == "Be brief."
    assert_same_answer(*ask_both(session, "Why not?", settings=FEW))
    session.undo()
    session.undo()
    session.undo()
    assert (session.history, session.context_used) == ([], 0)
    assert_same_answer(*ask_both(session, "Hello", settings=FEW))


@pytest.mark.slow
def test_an_answer_on_its_way_is_taken_back_as_far_as_it_is(session: Session) -> None:
    session.ask("Hello", settings=FEW)
    frames = session.stream("And now?", settings=FEW)
    frames_until_commit(frames, 1)
    assert session.undo().content == "And now?"
    assert len(session.history) == 2
    with pytest.raises(dg.TurnError):
        next(frames)
    assert_same_answer(*ask_both(session, "Why?", settings=FEW))
