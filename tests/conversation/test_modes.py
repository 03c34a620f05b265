"""Answers token by token, and by both modes in turn: what is kept, and what a Reply says of it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import assert_says, raises
from held import held, settled
from small import SIZES, picture, spell, talker, write_random

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.errors import PromptError, SettingsError, TurnError
from mlx_diffgemma.machine.choices import Choices, ModeTimes
from mlx_diffgemma.text.tokenizer import Tokenizer

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


@pytest.mark.parametrize("shown", range(1, 13))
def test_an_answer_given_up_at_any_frame_keeps_what_was_shown(session: Session, shown: int) -> None:
    """10 tokens and two commits: after each of them reply, history and prefix agree."""
    turn = session.turn("Hello", settings=replace(TOKENS, max_tokens=10))
    frames = iter(turn)
    seen = [next(frames) for _ in range(shown)]
    frames.close()  # type: ignore[attr-defined]
    tokens = {(frame.canvas, n): token for frame in seen for n, token in enumerate(frame.tokens)}
    reply = turn.reply()
    assert list(reply.token_ids) == list(tokens.values())
    assert sum(segment.tokens for segment in reply.segments) == len(tokens)
    assert reply.finish_reason == ("length" if shown == 12 else "interrupted")
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


@pytest.mark.parametrize("calls", [1, 9, 10])
def test_ctrl_c_inside_a_step_keeps_what_was_shown(
    session: Session, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    step, left = session.model.step, [calls]

    def interrupted(*given: Any) -> mx.array:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(session.model, "step", interrupted)
    turn, shown = session.turn("Hello", settings=TOKENS), list[dg.Frame]()
    with pytest.raises(KeyboardInterrupt):
        shown.extend(turn)
    monkeypatch.undo()
    reply = turn.reply()
    assert reply.finish_reason == "interrupted"
    assert reply.generated_tokens == len([frame for frame in shown if not frame.committed])
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


@pytest.mark.parametrize("lookup", [False, True])
def test_each_token_may_be_asked_for_in_another_thread(session: Session, lookup: bool) -> None:
    """MLX computes what is pending in the thread that made it alone."""
    options = replace(TOKENS, lookup=lookup)
    expected = [frame.tokens.tolist() for frame in session.stream("Hello", settings=options)]
    session.reset()
    frames, got = session.stream("Hello", settings=options), list[Any]()
    while len(got) < len(expected):
        with ThreadPoolExecutor(1) as thread:
            got.append(thread.submit(next, frames).result().tokens.tolist())
    assert got == expected
    again = session.ask("And now?", settings=options)
    assert again.generated_tokens == 20


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
    for prompt, most in (("Hello", 9), ("x" * 38, None), ("x" * 38, 1)):
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
        options: Any = {"mode": mode, "seed": 5, "max_tokens": 10, **times}
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


# --- what trained weights say


@pytest.fixture(scope="module")
def chat() -> Session:
    """tiny-chat, for answers that can be read; each test begins its own conversation."""
    return dg.load("tiny-chat")


def written(chat: Session, prompt: str, **options: Any) -> dg.Reply:
    chat.reset()
    return chat.ask(prompt, mode="ar", temperature=0, **options)


def test_a_thought_is_kept_apart_in_mode_ar(chat: Session) -> None:
    reply = written(chat, "8 + 59 =", think=True)
    assert reply.text == "8 + 59 = 67."
    assert reply.thinking is not None
    assert "carry 1" in reply.thinking
    assert chat.history[-1].content == "8 + 59 = 67."
    assert reply.finish_reason == "stop"


@pytest.mark.slow
def test_an_answer_over_three_segments_is_one_text(chat: Session) -> None:
    reply = written(chat, "Tell me a story about a bear")
    assert len(reply.segments) >= 3
    assert {segment.tokens for segment in reply.segments[:-1]} == {64}
    assert reply.text.startswith("Once there was")
    assert chat.tokenizer.decode(reply.token_ids) == reply.text


@pytest.mark.slow
def test_five_turns_that_switch_modes_are_those_of_fresh_sessions(chat: Session) -> None:
    chat.reset()
    turns: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("What is 17 + 25?", "diffusion", {}),
        ("name the opposite of up.", "ar", {}),
        ("And wet", "auto", {"auto_times": (10, 1)}),
        ("Add 72 and 10.", "auto", {"auto_times": (1, 10)}),
        ("thank you very much.", "ar", {"temperature": 0}),
    )
    for prompt, mode, more in turns:
        other = fresh(chat)
        got = chat.ask(prompt, mode=mode, seed=3, **more)
        expected = other.ask(prompt, mode=mode, seed=3, **more)
        assert (got.text, got.token_ids) == (expected.text, expected.token_ids)


# --- calls and loops, of a told answer


def told(session: Session, monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> Turn:
    """A turn in mode ar that says `ids`, in segments of 8, whatever the network thinks."""

    def frames(self: Turn, prefix: dg.Prefix) -> Iterator[dg.Frame]:
        for number in range(-(-len(ids) // 8)):
            said = np.array(ids[8 * number : 8 * number + 8], np.int32)
            for n in range(1, len(said) + 1):
                nothing, accepted = np.full(n, np.nan, np.float32), np.ones(n, np.bool_)
                yield (last := dg.Frame(number, n - 1, said[:n], nothing, accepted, mode="ar"))
            reason = "stop" if 8 * number + 8 >= len(ids) else None
            yield replace(last, committed=True, finish_reason=reason)

    monkeypatch.setattr(Turn, "_frames", frames)
    return finished(session, mode="ar", seed=1)


def test_a_tool_call_leaves_the_text_in_mode_ar(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = spell(tokenizer, "well ", "<|tool_call>", "call:sky{of:3}", "<tool_call|>", "<end>")
    turn = told(talker(tokenizer, []), monkeypatch, script)
    (call,) = turn.reply().tool_calls
    assert (call.name, call.arguments, turn.reply().text) == ("sky", {"of": 3}, "well ")
    assert turn.remarks == ()


def test_an_answer_that_goes_round_in_a_loop_is_remarked_upon(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = told(talker(tokenizer, []), monkeypatch, spell(tokenizer, "well, " + "abc" * 30))
    assert_says(*turn.remarks, "loop ... same 3 tokens ... seed")
    assert turn.reply().text.endswith("abcabc")


def test_a_lookup_that_does_not_pay_is_left_off_with_a_note(session: Session) -> None:
    assert session.ask("Hello", settings=replace(TOKENS, lookup=True)).lookup is not None
    session.tuned = Choices(times=ModeTimes(10.0, 1.0, rows_ms=((1, 1.0), (8, 5.0))))
    turn = finished(session, settings=replace(TOKENS, lookup=True))
    assert_says(*turn.notes, "lookup is off ... 8 rows ... 5 ms ... 1 ms")
    assert turn.reply().lookup is None


# --- images


@pytest.mark.parametrize("mode", ["ar", "auto"])
def test_an_image_is_asked_about_alike_in_all_modes(seeing: Session, mode: str) -> None:
    options: Any = {"mode": mode, "seed": 5, "max_tokens": 12}
    if mode == "auto":
        options["auto_times"] = (1, 1.3)
    first = seeing.ask("Hello", images=[picture(1)], **options)
    other = seeing.ask("Hello", images=[picture(2)], **options)
    seeing.reset()
    again = seeing.ask("Hello", images=[picture(1)], **options)
    assert first.token_ids == again.token_ids != other.token_ids
    denoised = seeing.turn("And now?", seed=5, max_tokens=8)
    assert denoised.prompt_ids == fresh(seeing).turn("And now?", **options).prompt_ids


@pytest.mark.slow
def test_twenty_answers_leave_memory_as_two_did(chat: Session) -> None:
    """Two hundred tokens each; the cache of a conversation that begins anew is used again."""
    left, before = list[int](), settled()
    for seed in range(20):
        chat.reset()
        prompt = "<bos><|turn>user\nCount<turn|>\n<|turn>model\n"
        chat.ask(prompt, mode="ar", seed=seed, max_tokens=200, raw=True, temperature=5.0)
        left.append(held() - before)
    assert max(left[2:]) <= max(left[:2]) + 65_536


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
