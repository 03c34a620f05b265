"""Answers token by token, and by both modes in turn: what is kept, and what a Reply says of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facts import raises
from small import SIZES, write_random

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.errors import PromptError, SettingsError, TurnError

INFINITE = float("inf")
TOKENS = dg.Settings(mode="ar", max_tokens=20, seed=5)  # segments of 8, 8 and 4


@pytest.fixture(scope="module")
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a context of 64 positions."""
    sizes = replace(SIZES, max_position_embeddings=64)
    return write_random(tmp_path_factory.mktemp("short"), sizes)


@pytest.fixture
def short(short_folder: Path) -> Session:
    """A session with a context of 64 positions, 9 of which the template takes."""
    return dg.load(short_folder)


def fresh(session: Session) -> Session:
    """The same conversation, with nothing encoded yet."""
    conversation = Conversation(session.system, list(session.history))
    return replace(session, conversation=conversation)


def finished(session: Session, prompt: str = "Hello", **options: Any) -> Turn:
    turn = session.turn(prompt, **options)
    for _ in turn:
        pass
    return turn


# --- frames and what is counted


def test_a_frame_a_token_and_a_committed_one_a_segment(session: Session) -> None:
    turn = session.turn("Hello", settings=TOKENS)
    frames = list(turn)
    places = [(f.canvas, f.step) for f in frames if not f.committed]
    assert places == [(n // 8, n % 8) for n in range(20)]
    committed = [f for f in frames if f.committed]
    assert [len(f.tokens) for f in committed] == [8, 8, 4]
    assert [f.finish_reason for f in committed] == [None, None, "length"]
    assert {f.mode for f in frames} == {"ar"}
    for frame in frames:
        assert len(frame.tokens) == frame.step + 1
        assert frame.text == session.tokenizer.decode(frame.tokens.tolist())


def test_a_reply_token_by_token_counts_no_canvas(session: Session) -> None:
    reply = finished(session, settings=TOKENS).reply()
    assert (reply.mode, reply.generated_tokens, reply.finish_reason) == ("ar", 20, "length")
    assert (reply.canvases, reply.steps) == (0, ())
    assert (reply.tokens_per_step, reply.positions_per_second) == (None, None)
    assert [(s.mode, s.tokens, s.steps) for s in reply.segments] == [
        ("ar", 8, None),
        ("ar", 8, None),
        ("ar", 4, None),
    ]
    seconds = reply.seconds
    assert (seconds.first_canvas, seconds.denoise) == (None, 0.0)
    assert seconds.first_token is not None
    assert seconds.prefill < seconds.first_token < seconds.total
    assert seconds.write == pytest.approx(sum(s.seconds for s in reply.segments))
    assert reply.tokens_per_second == 20 / seconds.total
    assert reply.sampler.ar is not None
    assert vars(reply.sampler.ar) == {"temperature": 1.0, "top_k": 64, "top_p": 0.95, "min_p": 0.0}


def test_a_canvas_has_no_first_token(session: Session) -> None:
    seconds = session.ask("Hello", settings=dg.Settings(max_tokens=8, seed=5)).seconds
    assert (seconds.first_token, seconds.write) == (None, 0.0)


# --- given up


@pytest.mark.parametrize("shown", range(1, 24))
def test_an_answer_given_up_at_any_frame_keeps_what_was_shown(session: Session, shown: int) -> None:
    """20 tokens and three commits: after each of them reply, history and prefix agree."""
    turn = session.turn("Hello", settings=TOKENS)
    frames = iter(turn)
    seen = [next(frames) for _ in range(shown)]
    frames.close()  # type: ignore[attr-defined]
    tokens = {(frame.canvas, n): token for frame in seen for n, token in enumerate(frame.tokens)}
    reply = turn.reply()
    assert list(reply.token_ids) == list(tokens.values())
    assert sum(segment.tokens for segment in reply.segments) == len(tokens)
    assert reply.finish_reason == ("length" if shown == 23 else "interrupted")
    assert session.history[-1].content == reply.text
    assert reply.text == session.tokenizer.decode(tokens.values())
    assert session.prefix is not None
    whole = [*turn.prompt_ids, *reply.token_ids]
    assert session.prefix.tokens == whole[: session.prefix.length]


@pytest.mark.parametrize("shown", [1, 9, 13])
def test_the_next_answer_follows_one_that_was_given_up(session: Session, shown: int) -> None:
    frames = session.stream("Hello", settings=TOKENS)
    for _ in range(shown):
        next(frames)
    frames.close()  # type: ignore[attr-defined]
    other = fresh(session)
    again = session.ask("And now?", settings=TOKENS)
    assert again.token_ids == other.ask("And now?", settings=TOKENS).token_ids


def test_an_interrupted_canvas_is_a_segment_without_tokens(session: Session) -> None:
    turn = session.turn("Hello", settings=dg.Settings(max_tokens=24, seed=5))
    frames = iter(turn)
    while next(frames).canvas < 1:
        pass
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    reply = turn.reply()
    assert [(s.tokens, s.steps) for s in reply.segments] == [(8, reply.steps[0]), (0, 2)]
    assert (reply.canvases, reply.generated_tokens) == (1, 8)


def test_another_question_takes_the_conversation_over_between_two_tokens(session: Session) -> None:
    frames = session.stream("Hello", settings=TOKENS)
    shown = [next(frames) for _ in range(5)][-1]
    reply = session.ask("And now?", settings=TOKENS)
    assert session.history[1].content == shown.text
    assert session.history[3].content == reply.text
    with pytest.raises(TurnError):
        next(frames)


# --- stop texts


def test_a_stop_text_ends_an_answer_with_the_token_that_completes_it(session: Session) -> None:
    whole = finished(session, settings=TOKENS).reply()
    stop = whole.text[9:11]
    assert stop not in whole.text[:9]
    session.reset()
    turn = session.turn("Hello", settings=replace(TOKENS, stop=(stop,)))
    frames = list(turn)
    reply = turn.reply()
    last = frames[-1]
    assert (last.committed, last.finish_reason, last.mode) == (True, "stop", "ar")
    assert last.tokens.tolist() == frames[-2].tokens.tolist()
    assert not frames[-2].committed
    assert (reply.finish_reason, reply.text) == ("stop", whole.text[: whole.text.index(stop)])
    assert reply.token_ids == whole.token_ids[: len(reply.token_ids)]
    assert session.tokenizer.decode(reply.token_ids).endswith(stop)
    assert session.history[-1].content == reply.text


def test_the_next_question_does_not_see_what_came_behind_a_stop_text(session: Session) -> None:
    whole = session.ask("Hello", settings=TOKENS)
    session.reset()
    session.ask("Hello", settings=replace(TOKENS, stop=(whole.text[9:11],)))
    other = fresh(session)
    again = session.ask("And now?", settings=TOKENS)
    assert again.token_ids == other.ask("And now?", settings=TOKENS).token_ids


# --- both modes in one conversation


def test_infinite_times_are_the_other_mode_to_the_bit(short: Session) -> None:
    """Also behind a prompt, and for so few tokens, that the rule would leave it to mode ar."""
    for prompt, most in (("Hello", 15), ("Hello", None), ("x" * 38, 15), ("x" * 38, 1)):
        for times, mode in (((INFINITE, 1), "ar"), ((1, INFINITE), "diffusion")):
            short.reset()
            alone = short.ask(prompt, mode=mode, seed=3, max_tokens=most)
            short.reset()
            both = short.ask(prompt, mode="auto", auto_times=times, seed=3, max_tokens=most)
            assert both.token_ids == alone.token_ids
            assert both.steps == alone.steps
            assert both.router is not None
            assert {decision.mode for decision in both.router.decisions} == {mode}
            json.dumps(both.to_json(), allow_nan=False)


def test_a_mode_for_each_question_answers_as_fresh_sessions_do(session: Session) -> None:
    for mode in ("diffusion", "ar", "auto", "diffusion", "ar"):
        times = {"auto_times": (1.0, 1.0)} if mode == "auto" else {}
        options: Any = {"mode": mode, "seed": 5, "max_tokens": 20, **times}
        other = fresh(session)
        got = session.ask(f"Say {mode}", **options)
        assert got.token_ids == other.ask(f"Say {mode}", **options).token_ids


def test_what_auto_prints_replays_it(session: Session) -> None:
    first = session.ask("Hello", mode="auto", seed=3, max_tokens=24)
    assert first.router is not None
    router = first.router
    assert router.source == "measured at the start"
    session.reset()
    times = (router.step_ms, router.token_ms, router.commit_ms)
    again = session.ask("Hello", mode="auto", seed=3, max_tokens=24, auto_times=times)
    assert again.token_ids == first.token_ids
    assert again.router is not None
    assert again.router.decisions == router.decisions


def test_committed_segments_never_change_while_frames_go_on(session: Session) -> None:
    committed: list[Any] = []
    frames = session.stream("Hello", mode="auto", seed=3, max_tokens=40, auto_times=(1, 2))
    for frame in frames:
        if frame.committed:
            committed.append((frame, frame.tokens.copy()))
        assert all(kept.tokens.tolist() == tokens.tolist() for kept, tokens in committed)
    assert len(committed) == 5


# --- settings and budgets


def test_fields_of_the_settings_are_options_too(session: Session) -> None:
    assert session.turn("Hello", seed=7, max_tokens=9).settings == dg.Settings(max_tokens=9, seed=7)
    turn = session.turn("Hello", settings=dg.Settings(seed=7), max_tokens=9)
    assert (turn.settings.seed, turn.settings.max_tokens) == (7, 9)
    assert session.fill_turn("a[[1]]", seed=7).settings.seed == 7
    with raises(SettingsError, "seed ... settings and beside"):
        session.turn("Hello", settings=dg.Settings(seed=7), seed=7)


@pytest.mark.parametrize("mode", ["ar", "auto"])
def test_a_template_is_always_denoised(session: Session, mode: str) -> None:
    with raises(SettingsError, f"mode is {mode} ... denoised"):
        session.fill("a[[1]]", mode=mode)


@pytest.mark.parametrize("mode", ["ar", "auto"])
def test_a_checkpoint_that_was_not_trained_for_it_refuses_a_mode_before_the_prompt(
    session: Session, mode: str
) -> None:
    untrained = replace(session.model.config, modes=("diffusion",))
    session.model.config = untrained
    other = replace(session, name="some-model")
    with raises(SettingsError, f"some-model ... next-token loss ... mode is {mode} ... diffusion"):
        other.ask("", mode=mode)


def test_the_context_is_filled_to_its_last_position(short: Session) -> None:
    reply = short.ask("x" * 41, mode="ar", seed=3)
    assert (reply.generated_tokens, reply.sampler.max_tokens) == (14, 14)
    short.reset()
    with raises(PromptError, "15 tokens need 65 positions ... 64", "max_tokens"):
        short.ask("x" * 41, mode="ar", max_tokens=15)


def test_auto_denoises_only_where_a_whole_canvas_fits(short: Session) -> None:
    reply = short.ask("x" * 35, mode="auto", auto_times=(1, 1e6), seed=3)
    assert [(s.mode, s.tokens) for s in reply.segments] == [
        ("diffusion", 8),
        ("diffusion", 8),
        ("ar", 4),
    ]


def test_room_in_memory_is_asked_for_what_the_mode_takes(session: Session) -> None:
    asked: list[int] = []
    session.require_room = asked.append
    length = len(session.turn("Hello", max_tokens=9).prompt_ids)
    session.turn("Hello", mode="ar", max_tokens=9)
    session.turn("Hello", mode="auto", max_tokens=9)
    assert asked == [length + 16, length + 9, length + 16]
