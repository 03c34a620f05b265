"""Conversations that are kept: found by what a prompt shares with them, counted, and let go of."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from held import held, settled
from loaded_engines import (
    assistant,
    cached_of,
    chat,
    done_of,
    engine_of,
    events_of,
    text_of,
)

import mlx_diffgemma as dg
from mlx_diffgemma.serve.engine.kept import OPENING
from mlx_diffgemma.serve.engine.loaded import LoadedEngine
from mlx_diffgemma.serve.refusal import Refusal

LONG = "a long text that many questions begin with, " * 3
SYSTEM = {"role": "system", "content": LONG}


def asked_and_encoded(engine: LoadedEngine, asked: Any, encoded: list[int]) -> tuple[str, int, int]:
    """The text, the tokens that need not be encoded, and those that were, of the prompt's."""
    encoded.clear()
    events = events_of(engine, asked)
    done = done_of(events)
    assert done.usage.cached == cached_of(events)
    return text_of(events), cached_of(events), sum(encoded)


def cold(folder: Path, asked: Any) -> str:
    """The text of an engine that has kept nothing."""
    return text_of(events_of(engine_of(folder, chunk=64), asked))


def test_a_conversation_that_goes_on_encodes_what_is_new_alone(
    engine: LoadedEngine, random_folder: Path, encoded: list[int]
) -> None:
    first = chat("one " * 12, max_tokens=8)
    text, cached, count = asked_and_encoded(engine, first, encoded)
    length = engine.count(first)
    assert (cached, count) == (0, length)
    second = chat("one " * 12, assistant(text), "two", max_tokens=8)
    answer, cached, count = asked_and_encoded(engine, second, encoded)
    assert length - OPENING <= cached <= length
    assert count == engine.count(second) - cached
    assert answer == cold(random_folder, second)
    assert engine.counters.kept_conversations == 1


def test_the_same_question_again_encodes_nothing(engine: LoadedEngine, encoded: list[int]) -> None:
    asked = chat(LONG, max_tokens=8)
    first, _, _ = asked_and_encoded(engine, asked, encoded)
    again, cached, count = asked_and_encoded(engine, asked, encoded)
    assert (again, cached, count) == (first, engine.count(asked), 0)
    written = chat(LONG, max_tokens=8, mode="ar")  # whose first token is read behind the last one
    assert asked_and_encoded(engine, written, encoded)[1:] == (engine.count(asked) - 1, 0)


def test_a_shared_beginning_is_copied_and_the_longer_conversation_stays(
    engine: LoadedEngine, random_folder: Path, encoded: list[int]
) -> None:
    one = chat(SYSTEM, "the first question of all", max_tokens=8)
    other = chat(SYSTEM, "what another client wants to know of it", max_tokens=8)
    text, _, _ = asked_and_encoded(engine, one, encoded)
    answer, cached, count = asked_and_encoded(engine, other, encoded)
    assert cached > len(LONG)
    assert count == engine.count(other) - cached
    assert answer == cold(random_folder, other)
    assert engine.counters.kept_conversations == 2
    for again, said in ((one, text), (other, answer)):
        assert asked_and_encoded(engine, again, encoded) == (said, engine.count(again), 0)


def test_a_beginning_that_is_not_stored_is_encoded_again_and_then_kept_by_itself(
    random_folder: Path, encoded: list[int]
) -> None:
    """Sliding layers keep the last 15 positions and 1,024 more, at least."""
    engine = engine_of(random_folder, chunk=256)
    engine.load()
    assert engine._weights is not None
    engine._weights.conversations.worth = len(LONG)
    first = chat(SYSTEM, "x" * 1500, max_tokens=8)
    asked_and_encoded(engine, first, encoded)
    second = chat(SYSTEM, "y" * 1500, max_tokens=8)
    text, cached, count = asked_and_encoded(engine, second, encoded)
    assert (cached, count) == (0, engine.count(second))
    assert engine.counters.encoded_tokens == engine.count(first) + engine.count(second)
    assert text == cold(random_folder, second)
    assert engine.counters.kept_conversations == 3  # the beginning is one of them
    for number in range(2):
        asked = chat(SYSTEM, f"another {number}", max_tokens=8)
        text, cached, count = asked_and_encoded(engine, asked, encoded)
        assert cached > len(LONG)
        assert count == engine.count(asked) - cached
        assert text == cold(random_folder, asked)


def test_a_short_beginning_that_is_not_stored_is_not_kept_by_itself(
    random_folder: Path, encoded: list[int]
) -> None:
    engine = engine_of(random_folder, chunk=256)
    for letter in "xy":
        asked = chat(SYSTEM, letter * 1500, max_tokens=8)
        assert asked_and_encoded(engine, asked, encoded)[1:] == (0, engine.count(asked))
    assert engine.counters.kept_conversations == 2


def test_two_conversations_take_turns(
    engine: LoadedEngine, random_folder: Path, encoded: list[int]
) -> None:
    said: dict[str, list[Any]] = {name: [name * 40] for name in "ab"}
    for turn in range(2):
        for messages in said.values():
            asked = chat(*messages, max_tokens=16)
            text, cached, count = asked_and_encoded(engine, asked, encoded)
            assert count - (engine.count(asked) - cached) in (0, 8)  # and a canvas's commit
            assert cached >= (engine.count(asked) - 40 if turn else 0)
            assert text == cold(random_folder, asked)
            messages += [assistant(text), f"and {turn}"]
    assert engine.counters.kept_conversations == 2


def test_images_are_shared_as_a_whole_or_not_at_all(tmp_path: Path, encoded: list[int]) -> None:
    from small import write_seeing

    folder = write_seeing(tmp_path)
    engine = engine_of(folder)
    pictures = [_png(seed) for seed in range(2)]
    parts = [{"type": "image"}, {"type": "text", "text": "what is it?"}]
    for images, kept in (((pictures[0],), False), ((pictures[0],), True), ((pictures[1],), False)):
        asked = chat({"role": "user", "content": parts}, images=images, max_tokens=8)
        text, cached, count = asked_and_encoded(engine, asked, encoded)
        assert count == engine.count(asked) - cached
        assert (cached == engine.count(asked)) == kept
        assert text == cold(folder, asked)
    assert cached < 8  # what stands before the image


def test_no_more_conversations_are_kept_than_wanted(random_folder: Path) -> None:
    engine = engine_of(random_folder, keep=2)
    asked = [chat(letter * 40, max_tokens=8) for letter in "abc"]
    for each in asked:
        events_of(engine, each)
    assert engine.counters.kept_conversations == 2
    assert cached_of(events_of(engine, asked[2])) == engine.count(asked[2])
    assert cached_of(events_of(engine, asked[0])) < 8


def test_none_is_kept_where_none_is_wanted(random_folder: Path) -> None:
    engine = engine_of(random_folder, keep=0)
    for _ in range(2):
        assert cached_of(events_of(engine, chat("a" * 40, max_tokens=8))) == 0
    assert engine.counters.kept_conversations == 0


def test_the_oldest_go_first_where_memory_lacks_room(random_folder: Path) -> None:
    """A machine with room for two conversations that wait, and then for none at all."""
    limits = [10**12]

    def read(session: dg.Session) -> dg.Session:
        def require_room(context: int, beside: int = 0) -> None:
            if beside > limits[0]:
                raise dg.FitError("it needs 2 GB, this machine can give 1 GB; or --force.")

        session.require_room = require_room
        return session

    engine = engine_of(random_folder, read=read)
    asked = [chat(letter * 40, max_tokens=8) for letter in "abc"]
    for each in asked:
        events_of(engine, each)
    assert engine._weights is not None
    limits[0] = int(2.5 * engine._weights.conversations.kept[0].num_bytes)
    events_of(engine, chat("d" * 40, max_tokens=8))
    assert engine.counters.kept_conversations == 3
    assert cached_of(events_of(engine, asked[2])) == engine.count(asked[2])
    limits[0] = -1
    with pytest.raises(Refusal, match="needs 2 GB, this machine can give 1 GB; shorten") as refused:
        events_of(engine, asked[0])
    assert refused.value.kind == "context"
    assert engine.counters.kept_conversations == 3  # what can never fit takes nothing away


def test_texts_are_the_same_whatever_was_kept(random_folder: Path) -> None:
    """Conversations that branch, in three modes, against an engine that keeps nothing."""
    chance, warm = random.Random(5), engine_of(random_folder, keep=3, chunk=16)
    told: list[list[Any]] = [[SYSTEM, "one " * 9], ["two " * 9]]
    for _ in range(8):
        messages = chance.choice(told)
        mode = chance.choice(["diffusion", "ar", "auto"])
        times = {"auto_times": (1.0, 1.0)} if mode == "auto" else {}
        asked = chat(*messages, max_tokens=8, mode=mode, **times)
        text = text_of(events_of(warm, asked))
        assert text == cold(random_folder, asked)
        told.append([*messages, assistant(text), chance.choice("xyz") * 5])


def test_a_conversation_that_waits_takes_less_memory_and_goes_on_as_before(
    engine: LoadedEngine, random_folder: Path, encoded: list[int]
) -> None:
    first = chat("one " * 12, max_tokens=8)
    text, _, _ = asked_and_encoded(engine, first, encoded)
    alone = engine.counters.kept_bytes
    events_of(engine, chat("two " * 12, max_tokens=8))
    assert engine.counters.kept_bytes < 1.2 * alone
    again = chat("one " * 12, assistant(text), "three", max_tokens=8)
    answer, cached, _ = asked_and_encoded(engine, again, encoded)
    assert cached >= engine.count(first) - OPENING
    assert answer == cold(random_folder, again)


def test_memory_is_flat_over_many_turns(engine: LoadedEngine) -> None:
    seen, before = list[int](), settled()
    for turn in range(12):
        events_of(engine, chat(f"question {turn} " * 4, max_tokens=8))
        seen.append(held() - before)
    assert max(seen[6:]) <= 1.05 * max(seen[:6])


def _png(seed: int) -> bytes:
    """A picture of noise, as a file."""
    import io

    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
