"""A conversation encodes exactly what is new, and says what one without a cache would say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compared import FEW, Spy, ask_both, assert_same_answer, frames_until_commit
from facts import raises
from small import NEWLINE, TURN

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.errors import PromptError
from mlx_diffgemma.text.chat import Message
from mlx_diffgemma.text.holes import longest_common_prefix


@pytest.fixture
def encoded(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the session's model has encoded, call by call."""
    return Spy(session, monkeypatch).calls


def text_of(ids: list[int]) -> str:
    return "".join(map(chr, ids))


# --- what is encoded


def test_the_first_question_is_encoded_whole_and_canvases_as_they_are_committed(
    session: Session, encoded: list[list[int]]
) -> None:
    turn = session.turn("Hello", settings=FEW)
    answer = [frame.tokens.tolist() for frame in turn if frame.committed]
    assert encoded == [turn.prompt_ids, answer[0], answer[1]]
    assert session.prefix is not None
    assert session.prefix.tokens == [*turn.prompt_ids, *answer[0], *answer[1]]


def test_the_second_question_encodes_exactly_what_is_behind_the_common_prefix(
    session: Session, encoded: list[list[int]]
) -> None:
    first = session.turn("Hello", settings=FEW)
    for _ in first:
        pass
    assert session.prefix is not None
    cached = list(session.prefix.tokens)
    encoded.clear()
    second = session.turn("And now?", settings=FEW)
    common = longest_common_prefix(cached, second.prompt_ids)
    for _ in second:
        pass
    assert common >= len(first.prompt_ids)
    assert encoded[0] == second.prompt_ids[common:]
    assert len(encoded) == 3


def test_an_answer_that_is_its_own_rendering_is_not_encoded_again(
    session: Session, encoded: list[list[int]]
) -> None:
    """Its two encoded canvases stay, if all their ids are letters; the third is new anyway."""
    for seed in range(50):
        session.reset()
        reply = session.ask("Hello", settings=replace(FEW, seed=seed))
        if min(reply.token_ids) >= 8:
            break
    encoded.clear()
    turn = session.turn("And now?", settings=FEW)
    next(iter(turn))
    assert encoded == [turn.prompt_ids[reply.prompt_tokens + 16 :]]


def test_a_repeated_raw_prompt_encodes_nothing(session: Session, encoded: list[list[int]]) -> None:
    first = session.ask("abcdef", raw=True, settings=FEW)
    encoded.clear()
    again = session.ask("abcdef", raw=True, settings=FEW)
    assert len(encoded) == 2  # its own canvases
    assert_same_answer(again, first)


def test_another_system_text_rolls_back_to_the_start(
    session: Session, encoded: list[list[int]]
) -> None:
    session.ask("Hello", settings=FEW)
    encoded.clear()
    got, expected = ask_both(session, "And now?", settings=FEW, system="Be brief.")
    whole = encoded[3]  # of the session without a cache
    assert whole[:3] == [2, TURN, ord("s")]
    assert encoded[0] == whole[2:]
    assert_same_answer(got, expected)
    encoded.clear()
    ask_both(session, "Once more", settings=FEW, system="")
    assert encoded[3][:3] == [2, TURN, 6]  # "user" again: the system text is gone
    assert encoded[0] == encoded[3][2:]
    assert session.system is None


def test_a_system_text_stays_until_it_is_replaced(session: Session) -> None:
    session.turn("Hello", system="Be brief.")
    plain = session.turn("Hello").prompt_ids
    assert text_of(plain[2:20]) == "system\nBe brief.\x05\n"[:18]


def test_after_reset_everything_is_encoded_anew(session: Session, encoded: list[list[int]]) -> None:
    first = session.ask("Hello", settings=FEW, system="Be brief.")
    session.reset()
    assert session.history == []
    assert session.prefix is None
    encoded.clear()
    turn = session.turn("Hello", settings=FEW)
    for _ in turn:
        pass
    assert encoded[0] == turn.prompt_ids
    assert_same_answer(turn.reply(), first)  # the system text stays


# --- what is said


def test_the_second_answer_is_that_of_a_session_without_a_cache(session: Session) -> None:
    first = session.ask("Hello", settings=FEW)
    got, expected = ask_both(session, "And now?", settings=FEW)
    assert_same_answer(got, expected)
    assert got.token_ids != first.token_ids


def test_the_conversation_reaches_the_model(session: Session) -> None:
    session.ask("Hello", settings=FEW)
    later = session.ask("And now?", settings=FEW)
    session.reset()
    alone = session.ask("And now?", settings=FEW)
    assert later.prompt_tokens > alone.prompt_tokens
    assert later.token_ids != alone.token_ids


@pytest.mark.parametrize("place", [0, 3, 8, 13])
def test_after_an_answer_that_stopped_inside_a_canvas(
    session: Session, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """The canvas behind the stop id was never encoded, and what was before it still counts."""
    ids = session.ask("Hello", settings=FEW).token_ids
    stop = ids[place]
    session.reset()
    monkeypatch.setattr(session.model, "config", replace(session.model.config, stop_ids=(stop,)))
    reply = session.ask("Hello", settings=FEW)
    assert reply.finish_reason == "stop"
    assert reply.token_ids == ids[: ids.index(stop) + 1]
    got, expected = ask_both(session, "And now?", settings=FEW)
    assert_same_answer(got, expected)


def test_three_turns_with_other_lengths_and_seeds(session: Session) -> None:
    for number, prompt in enumerate(["Hello", "Why is the sky blue?", "x", "And the sea?" * 5]):
        settings = dg.Settings(max_tokens=9 + 7 * number, seed=number)
        got, expected = ask_both(session, prompt, settings=settings)
        assert_same_answer(got, expected)
        assert len(session.history) == 2 * number + 2


@pytest.mark.slow
@pytest.mark.parametrize(("rollback", "margin", "step"), [(1024, 64, 256), (8, 4, 8), (0, 4, 4)])
def test_long_conversations_go_far_beyond_the_sliding_window(
    session: Session,
    encoded: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
    rollback: int,
    margin: int,
    step: int,
) -> None:
    """Where little is kept, a snapshot at each prompt's end still makes its answer new at most."""
    for name, value in (("ROLLBACK", rollback), ("MARGIN", margin), ("STEP", step)):
        monkeypatch.setattr(f"mlx_diffgemma.model.cache.{name}", value)
    prompt_end = 0
    for number in range(8):
        encoded.clear()
        settings = dg.Settings(max_tokens=(16, 64, 8)[number % 3], seed=number)
        got, expected = ask_both(session, f"Question {number}. " * 4, settings=settings)
        assert_same_answer(got, expected)
        assert len(encoded[0]) <= got.prompt_tokens - prompt_end
        prompt_end = got.prompt_tokens
    assert prompt_end > 500


@pytest.mark.slow
def test_going_back_to_any_earlier_question_is_exact(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History is edited from outside, as a user interface would; little is kept to go back to."""
    for name, value in (("ROLLBACK", 8), ("MARGIN", 4), ("STEP", 8)):
        monkeypatch.setattr(f"mlx_diffgemma.model.cache.{name}", value)
    random = np.random.default_rng(1)
    for number in range(12):
        if number % 2:
            del session.history[2 * int(random.integers(0, len(session.history) // 2)) :]
        settings = dg.Settings(max_tokens=int(random.integers(1, 60)), seed=number)
        got, expected = ask_both(session, f"Question {number}. ", settings=settings)
        assert_same_answer(got, expected)


@pytest.mark.slow
def test_a_prompt_longer_than_an_encoder_chunk_is_the_same_in_the_second_turn(
    session: Session,
) -> None:
    session.ask("a long story " * 170, settings=FEW)  # 2,210 letters; a chunk is 2,048
    got, expected = ask_both(session, "And now?", settings=FEW)
    assert got.prompt_tokens > 2220
    assert_same_answer(got, expected)


# --- giving up early


def test_a_turn_closed_after_its_first_canvas_keeps_that_canvas(session: Session) -> None:
    whole = session.ask("Hello", settings=FEW)
    session.reset()
    turn = session.turn("Hello", settings=FEW)
    frames = iter(turn)
    frames_until_commit(frames, 1)
    frames.close()  # type: ignore[attr-defined]
    reply = turn.reply()
    assert reply.finish_reason == "interrupted"
    assert reply.token_ids == whole.token_ids[:8]
    assert (reply.canvases, reply.generated_tokens) == (1, 8)
    assert session.history == [Message("user", "Hello"), Message("assistant", reply.text)]
    got, expected = ask_both(session, "And now?", settings=FEW)
    assert_same_answer(got, expected)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_turn_closed_inside_its_second_canvas_keeps_the_first(
    session: Session, steps: int
) -> None:
    frames = session.stream("Hello", settings=FEW)
    frames_until_commit(frames, 1)
    for _ in range(steps):
        next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert [turn.role for turn in session.history] == ["user", "assistant"]
    assert_same_answer(*ask_both(session, "And now?", settings=FEW))


def test_leaving_a_stream_is_giving_up(session: Session) -> None:
    for frame in session.stream("Hello", settings=FEW):
        if frame.committed:
            break
    assert len(session.history) == 2
    assert_same_answer(*ask_both(session, "And now?", settings=FEW))


def test_a_turn_given_up_before_its_first_canvas_leaves_no_trace(session: Session) -> None:
    turn = session.turn("Hello", settings=FEW)
    frames = iter(turn)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    reply = turn.reply()
    assert (reply.text, reply.token_ids, reply.steps) == ("", (), ())
    assert (reply.finish_reason, reply.tokens_per_step) == ("interrupted", None)
    assert session.history == []
    got, expected = ask_both(session, "And now?", settings=FEW)
    assert_same_answer(got, expected)


class InterruptedLayer:
    """A layer at whose n-th call somebody presses Ctrl-C."""

    def __init__(self, layer: Any, calls: int) -> None:
        self.layer, self.left = layer, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def encode(self, *args: Any) -> mx.array:
        self._count()
        return self.layer.encode(*args)

    def decode(self, *args: Any) -> mx.array:
        self._count()
        return self.layer.decode(*args)

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("calls", [1, 2, 3, 6])
def test_ctrl_c_inside_the_network_leaves_a_session_that_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Raised between two layers: while the prompt, a canvas or a committed canvas is computed."""
    session.ask("Hello", settings=FEW)
    first, second, *rest = session.model.layers
    layers = [first, InterruptedLayer(second, calls), *rest]
    monkeypatch.setattr(session.model, "layers", layers)
    turn = session.turn("And now?", settings=FEW)
    with pytest.raises(KeyboardInterrupt):
        list(turn)
    monkeypatch.undo()
    assert turn.reply().finish_reason == "interrupted"
    assert turn.reply().canvases == (1 if calls == 6 else 0)  # prompt, four steps, then the commit
    assert len(session.history) == (4 if calls == 6 else 2)
    assert_same_answer(*ask_both(session, "Again", settings=FEW))


def test_a_turn_that_is_never_iterated_computes_and_changes_nothing(
    session: Session, encoded: list[list[int]]
) -> None:
    session.turn("Hello", settings=FEW)
    assert (encoded, session.history, session.prefix) == ([], [], None)


# --- what is refused


@pytest.mark.parametrize("prompt", ["", "  \n\t"])
@pytest.mark.parametrize("raw", [False, True])
def test_an_empty_prompt_is_refused(session: Session, prompt: str, raw: bool) -> None:
    with raises(PromptError, "prompt is empty"):
        session.ask(prompt, raw=raw)


@pytest.mark.parametrize("prompt", [None, 42, b"Hello"])
def test_a_prompt_that_is_no_text_is_refused(session: Session, prompt: Any) -> None:
    """Bug: `ask(None)` was an AttributeError."""
    for ask in (session.ask, session.stream, session.fill):
        with raises(PromptError, f"is {prompt!r}, expected a text"):
            ask(prompt)
    with raises(PromptError, f"prompt is {prompt!r}, expected a text"):
        session.fill("[[...]]", prompt=prompt)
    assert session.history == []


def test_a_prompt_that_does_not_fit_is_refused_and_the_conversation_goes_on(
    session: Session,
) -> None:
    session.ask("Hello", settings=FEW)
    tokens = len(session.turn("x" * 100).prompt_ids) + 4000
    with raises(PromptError, f"{tokens:,} prompt tokens ... 1 canvas of 8 ... {tokens + 8:,}"):
        session.ask("x" * 4100)
    with pytest.raises(PromptError, match=r"511 canvases of 8 .* lower max_tokens"):
        session.ask("x", settings=dg.Settings(max_tokens=4088))
    assert len(session.history) == 2
    assert_same_answer(*ask_both(session, "And now?", settings=FEW))


def test_an_unknown_option_is_refused(session: Session) -> None:
    for call in (session.ask, session.stream, session.turn):
        with pytest.raises(TypeError, match="setings"):
            call("Hello", setings=FEW)  # type: ignore[call-arg]


def test_raw_prompts_take_no_template_and_enter_no_conversation(session: Session) -> None:
    turn = session.turn("<|turn>abc", raw=True, settings=FEW)
    assert turn.prompt_ids == [TURN, *map(ord, "abc")]
    for _ in turn:
        pass
    assert session.history == []
    assert turn.reply().prompt_tokens == 4
    plain = session.turn("abc").prompt_ids
    assert plain == [2, TURN, 6, NEWLINE, *map(ord, "abc"), 5, NEWLINE, TURN, 7, NEWLINE]


# --- an earlier conversation


def test_a_restored_conversation_goes_on_as_if_it_had_not_ended(
    session: Session, folder: Path
) -> None:
    for question in ("Hello", "And now?"):
        session.ask(question, settings=FEW, system="Be brief.")
    expected = session.ask("Why?", settings=FEW)
    other = dg.load(folder)
    other.restore(session.history[:4], session.system)
    assert_same_answer(other.ask("Why?", settings=FEW), expected)


@pytest.mark.parametrize(
    ("roles", "facts"),
    [
        (["assistant"], "message 1 ... assistant's ... user's"),
        (["user", "user"], "message 2 ... user's ... assistant's"),
        (["system"], "message 1 ... system's"),
        (["user"], "ends with a question"),
    ],
)
def test_a_conversation_out_of_turn_changes_nothing(
    session: Session, roles: list[Any], facts: str
) -> None:
    session.ask("Hello", settings=FEW, system="Be brief.")
    before = list(session.history)
    with raises(PromptError, facts):
        session.restore([Message(role, "x") for role in roles])
    assert (session.history, session.system) == (before, "Be brief.")


def test_the_context_meter(session: Session) -> None:
    assert (session.context_used, session.context_length) == (0, 4096)
    reply = session.ask("Hello", settings=FEW)
    assert session.context_used >= reply.prompt_tokens
    session.reset()
    assert session.context_used == 0
