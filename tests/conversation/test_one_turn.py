"""One turn at a time has the conversation: taken over, given up, iterated twice, in any thread."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import ref

import mlx.core as mx
import pytest
from facts import raises
from small import SIZES, write_random
from waiting import SECONDS

import mlx_diffgemma as dg
from mlx_diffgemma.conversation.conversation import Conversation
from mlx_diffgemma.conversation.session import Session
from mlx_diffgemma.conversation.turn import Turn
from mlx_diffgemma.errors import PromptError, TurnError
from mlx_diffgemma.text.chat import Message

FEW = dg.Settings(max_tokens=16, seed=5)  # two canvases of four steps
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
EASY = "".join("." if i % 10 in (0, 4, 8) else cell for i, cell in enumerate(SOLUTION))
LOST = "cannot go on: another question was asked ... ask again"


def fresh(session: Session, *history: Message) -> Session:
    """A session with the same model that has encoded nothing."""
    return replace(session, conversation=Conversation(session.system, list(history)))


def seen(frames: Iterator[dg.Frame]) -> list[Any]:
    """All that tells the frames of one answer from another's."""
    return [(f.canvas, f.step, f.tokens.tolist(), f.entropies.tolist()) for f in frames]


def until_commit(frames: Iterator[dg.Frame]) -> dg.Frame:
    return next(frame for frame in frames if frame.committed)


def roles(session: Session) -> list[str]:
    return [message.role for message in session.history]


def in_thread(work: Callable[[], Any]) -> Any:
    """The result, or the error, of work in a thread of its own."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # a KeyboardInterrupt among them
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SECONDS)
    return results[0]


# --- a question while another one is being answered


def test_the_first_of_two_turns_is_over_and_the_second_is_right(session: Session) -> None:
    """It went on over the second one's keys, with other text and no error."""
    first = session.stream("Hello", settings=FEW)
    next(first)
    second = session.ask("And now?", settings=FEW)
    with raises(TurnError, LOST):
        list(first)
    assert second.token_ids == fresh(session).ask("And now?", settings=FEW).token_ids
    assert session.history == [Message("user", "And now?"), Message("assistant", second.text)]


def test_the_second_of_two_puzzles_has_the_frames_of_a_fresh_session() -> None:
    """49 frames instead of 9 came, and another grid."""
    session, settings = dg.load("tiny-sudoku"), dg.Settings(seed=7)
    expected = seen(fresh(session).stream(EASY, settings=settings))
    first = session.stream(PUZZLE, settings=settings)
    next(first)
    second = session.turn(EASY, settings=settings)
    assert seen(iter(second)) == expected
    assert second.problem() is None
    with raises(TurnError, LOST):
        next(first)


def test_finished_canvases_come_in_front_of_the_new_question(session: Session) -> None:
    turn = session.turn("Hello", settings=FEW)
    frames = iter(turn)
    until_commit(frames)
    next(frames)  # inside the second canvas
    second = session.ask("And now?", settings=FEW)
    reply = turn.reply()
    assert (reply.finish_reason, reply.canvases) == ("interrupted", 1)
    frames.close()  # type: ignore[attr-defined]
    assert turn.reply().seconds == reply.seconds  # the time ended with the turn
    before = [Message("user", "Hello"), Message("assistant", reply.text)]
    assert session.history[:2] == before
    assert second.token_ids == fresh(session, *before).ask("And now?", settings=FEW).token_ids


@pytest.mark.parametrize("end", [lambda frames: frames.close(), lambda frames: None])
def test_what_ends_late_comes_not_behind_a_later_answer(
    session: Session, end: Callable[[Any], object]
) -> None:
    """Closing the stream, or its collection, put its question behind the second's answer."""
    frames = session.stream("Hello", settings=FEW)
    until_commit(frames)
    session.ask("And now?", settings=FEW)
    history = list(session.history)
    assert [message.content for message in history[::2]] == ["Hello", "And now?"]
    end(frames)
    del frames
    gc.collect()
    assert session.history == history


def test_a_finished_answer_is_remembered_with_its_last_frame(session: Session) -> None:
    turn = session.turn("Hello", settings=FEW)
    frames = iter(turn)
    while not turn.finished:
        next(frames)
    assert roles(session) == ["user", "assistant"]
    session.ask("And now?", settings=FEW)
    assert list(frames) == []  # nothing would be computed: no error
    assert roles(session) == ["user", "assistant"] * 2


def test_a_turn_is_over_before_it_begins_where_another_came(session: Session) -> None:
    first, second = session.turn("Hello", settings=FEW), session.turn("And now?", settings=FEW)
    with raises(TurnError, LOST):
        list(first)
    assert list(second)
    assert roles(session) == ["user", "assistant"]


def test_a_template_takes_over_and_is_taken_over(session: Session) -> None:
    quick = dg.Settings(seed=5, max_denoising_steps=2)
    expected = fresh(session).fill("a [[20]] b", settings=quick).text
    answer = session.stream("Hello", settings=FEW)
    until_commit(answer)
    template = session.fill_turn("a [[20]] b", settings=quick)
    frames = iter(template)
    next(frames)
    with raises(TurnError, LOST):
        next(answer)
    assert session.fill("a [[20]] b", settings=quick).text == expected
    with raises(TurnError, LOST):
        next(frames)
    assert roles(session) == ["user", "assistant"]


@pytest.mark.parametrize("prompt", ["", "x" * 4100])
def test_a_question_that_is_refused_leaves_the_answer_as_it_was(
    session: Session, prompt: str
) -> None:
    expected = seen(fresh(session).stream("Hello", settings=FEW))
    frames = session.stream("Hello", settings=FEW)
    start = [next(frames)]
    with pytest.raises(PromptError):
        session.ask(prompt, system="Be brief.")
    with pytest.raises(PromptError):
        session.fill("no hole")
    with pytest.raises(PromptError):
        session.restore([Message("assistant", "Hi")])
    assert session.system is None
    assert seen(iter([*start, *frames])) == expected


def test_reset_and_restore_take_the_conversation(session: Session) -> None:
    frames = session.stream("Hello", settings=FEW)
    until_commit(frames)
    session.reset()
    with raises(TurnError, "the conversation was reset ... ask again"):
        next(frames)
    assert session.history == []
    frames = session.stream("Hello", settings=FEW)
    until_commit(frames)
    earlier = [Message("user", "Hi"), Message("assistant", "Ho")]
    session.restore(earlier)
    with raises(TurnError, "another conversation was restored ... ask again"):
        next(frames)
    assert session.history == earlier


def test_the_history_itself_can_be_restored(session: Session) -> None:
    session.ask("Hello", settings=FEW)
    history = list(session.history)
    until_commit(frames := session.stream("And now?", settings=FEW))
    session.restore(session.history)
    assert session.history == history
    del frames
    assert session.history == history


# --- iterated twice


def test_a_turn_is_iterated_once(session: Session) -> None:
    """A second iteration doubled the history."""
    turn = session.turn("Hello", settings=FEW)
    list(turn)
    with raises(TurnError, "iterated before ... reply() ... session.turn()"):
        iter(turn)
    assert len(session.history) == 2
    running = session.turn("And now?", settings=FEW)
    frames = iter(running)
    next(frames)
    with raises(TurnError, "iterated before"):
        iter(running)
    assert list(frames)
    assert len(session.history) == 4


def test_a_turn_that_nobody_iterates_keeps_no_session(folder: Path) -> None:
    session = dg.load(folder)
    gone = ref(session)
    turn = session.turn("Hello", settings=FEW)
    next(iter(turn))
    gc.collect()
    gc.disable()
    try:
        del session, turn
        assert gone() is None
    finally:
        gc.enable()


# --- from inside a step


def test_nothing_is_asked_from_inside_a_step(session: Session) -> None:
    """Its keys would be taken from under it; the answer that runs goes on."""
    caught: list[str] = []

    def progress(done: int, total: int) -> None:
        for ask in (lambda: session.ask("x"), session.reset, lambda: session.restore([])):
            with raises(TurnError, "inside a step ... between two frames"):
                ask()
            caught.append("refused")

    expected = fresh(session).ask("Hello", settings=FEW)
    got = session.ask("Hello", settings=FEW, progress=progress)
    assert caught == ["refused"] * 3
    assert got.token_ids == expected.token_ids
    assert len(session.history) == 2


# --- threads


def test_another_thread_gets_the_same_answers(session: Session) -> None:
    alone, got, expected = fresh(session), [], []
    for number, prompt in enumerate(("Hello", "And now?", "Why is that? " * 20, "So?")):
        ask = partial(session.ask, prompt, settings=FEW)
        got.append((in_thread(ask) if number % 2 else ask()).token_ids)
        expected.append(alone.ask(prompt, settings=FEW).token_ids)
    assert got == expected


def test_what_a_step_leaves_pending_is_computed_in_its_thread(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot of the cache, which no step reads: others raised "There is no Stream"."""
    for name, value in (("ROLLBACK", 0), ("MARGIN", 4), ("STEP", 4)):
        monkeypatch.setattr(f"mlx_diffgemma.model.cache.{name}", value)

    def frames(of: Session, end: str) -> Any:
        return seen(islice(of.stream("a" * 40 + end, raw=True, settings=FEW), 2))

    in_thread(partial(frames, session, "xy"))
    assert frames(session, "zw") == frames(fresh(session), "zw")


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_each_frame_may_be_asked_for_in_another_thread(tmp_path: Path, dtype: mx.Dtype) -> None:
    """As a server's pool of threads does it."""
    session = in_thread(lambda: dg.load(write_random(tmp_path, replace(SIZES, layers="sf")), dtype))
    for ask in (
        lambda s: s.stream("Hello", settings=FEW),
        lambda s: iter(s.fill_turn("a [[20]] b", settings=dg.Settings(seed=5))),
    ):
        expected, frames, got = seen(ask(fresh(session))), ask(session), list[Any]()
        while frame := in_thread(lambda frames=frames: next(frames, None)):
            got.append(frame)
        assert seen(iter(got)) == expected


def test_a_step_broken_off_in_one_thread_leaves_nothing_pending_for_another(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, layer: Any) -> None:
            self.layer = layer

        def __getattr__(self, name: str) -> Any:
            return getattr(self.layer, name)

        def decode(self, *_: Any) -> mx.array:
            raise KeyboardInterrupt

    *others, last = session.model.layers
    monkeypatch.setattr(session.model, "layers", [*others, Broken(last)])
    assert isinstance(in_thread(lambda: session.ask("Hello", settings=FEW)), KeyboardInterrupt)
    monkeypatch.undo()
    expected = fresh(session).ask("Hello", settings=FEW)
    assert session.ask("Hello", settings=FEW).token_ids == expected.token_ids


def test_a_stream_may_be_closed_in_another_thread(session: Session) -> None:
    frames: Any = session.stream("Hello", settings=FEW)
    until_commit(frames)
    in_thread(frames.close)
    assert roles(session) == ["user", "assistant"]
    before = list(session.history)
    again = session.ask("And now?", settings=FEW)
    assert again.token_ids == fresh(session, *before).ask("And now?", settings=FEW).token_ids


class Unfair:
    """A lock that whoever comes gets before those who wait, as on a Mac; they look at times."""

    def __init__(self) -> None:
        self.lock, self.waited_for = threading.RLock(), threading.Event()

    def __enter__(self) -> None:
        while not self.lock.acquire(blocking=False):
            self.waited_for.set()
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_question_waits_for_the_step_that_runs_and_no_more(session: Session) -> None:
    """A thread that goes from step to step leaves the lock free for a moment only."""
    session.conversation._room = room = Unfair()
    other = threading.Thread(target=lambda: session.ask("And now?", settings=FEW))

    def progress(done: int, total: int) -> None:
        other.start()
        assert room.waited_for.wait(SECONDS)  # for the end of this very step

    frames = session.stream("Hello", settings=FEW, progress=progress)
    next(frames)
    with raises(TurnError, LOST):
        next(frames)
    other.join(SECONDS)
    assert [message.content for message in session.history[::2]] == ["And now?"]


@pytest.mark.parametrize("threads", [2, 4])
def test_of_threads_that_ask_at_once_each_is_answered_right_or_refused(
    session: Session, threads: int
) -> None:
    """The one that asked last is answered; keys are never written by two."""
    start = threading.Barrier(threads)
    turns: list[Turn] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        start.wait()
        for round_ in range(3):
            try:
                turn = session.turn(f"Question {number}.{round_}", settings=FEW)
                list(turn)
                turns.append(turn)
            except BaseException as error:
                errors.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS)
    assert turns
    assert len(turns) + len(errors) == 3 * threads
    assert {type(error) for error in errors} <= {TurnError}
    for turn in turns:
        expected = dg.denoise(session.model, turn.prompt_ids, turn.settings)
        tokens = [token for f in expected if f.committed for token in f.tokens.tolist()]
        assert list(turn.reply().token_ids) == tokens
    answered = [message for turn in turns for message in turn.messages()]
    assert all(message in session.history for message in answered)
    assert roles(session) == ["user", "assistant"] * (len(session.history) // 2)
