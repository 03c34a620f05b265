"""Prompt lookup: drafts from the text, and an answer that is that of plain sampling."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from facts import assert_says
from fake_model import tiny_config
from writing import VOCAB, WritingModel, answer, by_last, drawn_again, saying

import mlx_diffgemma as dg
from mlx_diffgemma.autoregressive.generate import generate
from mlx_diffgemma.autoregressive.lookup import MOST, Lookup, left_off, lookup_of, pays
from mlx_diffgemma.autoregressive.router import Router, Times
from mlx_diffgemma.autoregressive.write import write
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.machine.choices import Choices, ModeTimes

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]


def ar(**given: Any) -> Settings:
    return Settings(mode="ar", lookup=True, **{"seed": 7, **given})


# --- drafts


def naive(text: list[int], length: int) -> list[int]:
    """A search through everything: what followed the last earlier place of the last four tokens."""
    for end in range(len(text) - 1, 3, -1):
        if text[end - 4 : end] == text[-4:]:
            followed = text[end:]
            return [followed[at % len(followed)] for at in range(length)]
    return []


def test_a_draft_is_what_followed_the_last_time() -> None:
    random = np.random.default_rng(3)
    text: list[int] = []
    lookup = Lookup()
    found = 0
    for token in random.integers(0, 3, 300).tolist():
        text.append(token)
        lookup.append(token)
        assert lookup.draft(15) == naive(text, 4)
        assert lookup.matches == bool(naive(text, 4))
        found += lookup.matches
    assert found > 100


def test_ids_of_any_size_are_told_apart() -> None:
    """A gram is packed into one number: its tokens must not run into each other."""
    lookup = Lookup()
    lookup.follow([1, 0, 0, 0, 5, 0, 2**18, 0, 0, 0, 262_143, 0, 0, 0])
    assert not lookup.matches
    lookup.follow([1, 0, 0, 0, 5, 0, 2**18, 0, 0, 0, 262_143, 0, 0, 0, 1, 0, 0, 0])
    assert lookup.draft(2) == [5, 0]


def test_text_that_is_known_is_not_taken_over_twice() -> None:
    lookup = Lookup()
    lookup.follow([1, 2, 3, 4, 5])
    lookup.append(1)
    lookup.follow([1, 2, 3, 4, 5, 1, 2, 3, 4])
    assert lookup.draft(3) == [5, 1, 2]


@pytest.mark.parametrize(
    ("before", "drafted", "right", "after"),
    [(4, 4, 4, 8), (8, 8, 8, 15), (15, 15, 15, 15), (15, 15, 9, 9), (8, 8, 1, 2), (4, 4, 0, 2),
     (2, 2, 2, 4), (8, 3, 3, 15)],
)  # fmt: skip
def test_the_next_draft_is_twice_as_long_or_as_long_as_was_right(
    before: int, drafted: int, right: int, after: int
) -> None:
    lookup = Lookup(length=before)
    draft = list(range(drafted))
    assert lookup.checked(draft, [*draft[:right], *[99] * (drafted + 1 - right)]) == right
    assert (lookup.length, lookup.drafted, lookup.passes) == (after, drafted, 1)


# --- the answer


@pytest.mark.parametrize("canvas", [1, 7, 64])
@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_the_answer_is_that_of_plain_sampling(canvas: int, temperature: float) -> None:
    rule, settings = by_last(1), ar(max_tokens=60, temperature=temperature)
    model, lookup = WritingModel(rule, tiny_config(VOCAB, canvas)), Lookup()
    prefix = model.new_prefix()
    frames = list(write(model, PROMPT, settings, prefix=prefix, lookup=lookup))
    got = answer(frames)
    assert got == drawn_again(rule, PROMPT, got, settings, model.config)
    assert len(got) == 60
    assert prefix.tokens == [*PROMPT, *got[:-1]]
    ends = [len(frame.tokens) for frame in frames if frame.committed]
    assert ends == [canvas] * (60 // canvas) + ([60 % canvas] if 60 % canvas else [])
    if canvas > 1:
        assert lookup.accepted > 0
        assert lookup.passes == len(model.asked("rows"))
        assert lookup.drafted == sum(len(rows) - 1 for rows in model.asked("rows"))
    else:
        assert lookup.passes == 0, "a draft goes over no end of a segment"


@pytest.mark.parametrize("length", [1, 2, 3, 15])
def test_drafts_of_any_length_change_nothing(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_diffgemma.autoregressive.lookup.LEAST", length)
    monkeypatch.setattr("mlx_diffgemma.autoregressive.lookup.MOST", length)
    rule, settings = by_last(1), ar(max_tokens=40, temperature=0.6)
    model, lookup = WritingModel(rule), Lookup(length=length)
    got = answer(list(write(model, PROMPT, settings, lookup=lookup)))
    assert got == drawn_again(rule, PROMPT, got, settings, model.config)
    assert 0 < lookup.accepted <= lookup.drafted


def test_a_frame_a_token_as_without_lookup() -> None:
    for settings in (ar(max_tokens=30, temperature=0), ar(max_tokens=30, temperature=0.5)):
        models = [WritingModel(by_last(1), tiny_config(VOCAB, 8)) for _ in range(2)]
        on, off = (
            list(write(model, PROMPT, settings, lookup=lookup))
            for model, lookup in zip(models, (Lookup(), None), strict=True)
        )
        assert [frame.tokens.tolist() for frame in on] == [frame.tokens.tolist() for frame in off]
        assert [(f.canvas, f.step, f.committed, f.finish_reason) for f in on] == [
            (f.canvas, f.step, f.committed, f.finish_reason) for f in off
        ]


def test_whole_copies_take_few_passes() -> None:
    text = list(np.random.default_rng(5).permutation(36) + 4)
    prompt = [int(token) for token in (*text, *text[:4])]
    config, lookup = tiny_config(VOCAB, 64), Lookup()
    model = WritingModel(saying(prompt[4:36], len(prompt)), config)
    got = answer(list(write(model, prompt, ar(max_tokens=32, temperature=0), lookup=lookup)))
    assert got == prompt[4:36]
    drafts = [len(rows) - 1 for rows in model.asked("rows")]
    assert drafts[:2] == [4, 8]
    assert max(drafts) <= MOST
    assert len(model.asked("step")) + lookup.passes <= 5


@pytest.mark.parametrize("stop_at", range(1, 12))
def test_a_stop_inside_a_draft_ends_the_answer(stop_at: int) -> None:
    said = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    prompt = [*said, *said[:4]]
    script = [*said[4 : 3 + stop_at], 2] if stop_at < 9 else [*said[4:], *[2] * (stop_at - 8)]
    model = WritingModel(saying(script, len(prompt)), tiny_config(VOCAB, 20, stop_ids=[2]))
    prefix = model.new_prefix()
    frames = list(write(model, prompt, ar(max_tokens=20, temperature=0), prefix=prefix))
    assert answer(frames) == script[: script.index(2) + 1]
    assert frames[-1].finish_reason == "stop"
    assert prefix.tokens == [*prompt, *answer(frames)[:-1]]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 11])
def test_drafts_end_with_the_tokens_and_with_the_context(most: int) -> None:
    prompt = [5, 6, 7, 8] * 3
    config = tiny_config(VOCAB, 64, context=len(prompt) + most)
    model = WritingModel(saying([5, 6, 7, 8] * 5, len(prompt)), config)
    prefix = model.new_prefix()
    frames = list(write(model, prompt, ar(max_tokens=most, temperature=0), prefix=prefix))
    assert answer(frames) == ([5, 6, 7, 8] * 5)[:most]
    assert frames[-1].finish_reason == "length"
    assert all(len(rows) < most for rows in model.asked("rows")), "behind the first token"
    assert prefix.length == len(prompt) + most - 1


def test_lookup_works_in_the_segments_of_mode_auto() -> None:
    rule = by_last(1)
    settings = Settings(mode="auto", seed=7, temperature=0.6, max_tokens=40, lookup=True)
    router = Router(Times(float("inf"), 1.0, "given"), 10)
    model, lookup = WritingModel(rule, tiny_config(VOCAB, 10)), Lookup()
    got = answer(list(generate(model, PROMPT, settings, router=router, lookup=lookup)))
    assert got == drawn_again(rule, PROMPT, got, settings, model.config)
    assert lookup.accepted > 0


class Planted(Lookup):
    """Drafts from an answer that is known, each with one wrong token at some place or behind it."""

    def __init__(self, known: list[int], prompt_length: int, seed: int) -> None:
        super().__init__()
        self.known, self.prompt_length = known, prompt_length
        self.random = np.random.default_rng(seed)

    @property
    def matches(self) -> bool:
        return True

    def draft(self, most: int) -> list[int]:
        length = min(int(self.random.integers(1, MOST + 1)), most)
        wrong = self.random.integers(length + 1)
        at = len(self._tokens) - self.prompt_length
        draft = self.known[at : at + length]
        return [(token + (place == wrong)) % VOCAB for place, token in enumerate(draft)]


def test_a_networks_answer_across_its_window_is_that_of_plain_sampling(tmp_path: Path) -> None:
    """In float32 on the CPU; on GPUs up to near-ties."""
    sizes = Sizes("sf", VOCAB, sliding_window=8, canvas_length=32, std=0.03, sharpness=40.0)
    network = dg.load_model(write_checkpoint(tmp_path, sizes), dtype=mx.float32)
    for temperature in (0.0, 1.0):
        off, on = network.new_prefix(), network.new_prefix()
        settings = Settings(mode="ar", seed=7, max_tokens=36, temperature=temperature)
        plain = answer(list(write(network, PROMPT, settings, prefix=off)))
        lookup = Planted(plain, len(PROMPT), seed=1)
        assert answer(list(write(network, PROMPT, settings, prefix=on, lookup=lookup))) == plain
        assert 0 < lookup.accepted < lookup.drafted
        assert mx.allclose(network.step(5, on), network.step(5, off), atol=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_wrong_drafts_change_nothing(seed: int) -> None:
    rule, settings = by_last(2), ar(max_tokens=40)
    model = WritingModel(rule, tiny_config(VOCAB, 25))
    plain = answer(list(write(model, PROMPT, replace(settings, lookup=False))))
    lookup = Planted(plain, len(PROMPT), seed)
    assert answer(list(write(model, PROMPT, settings, lookup=lookup))) == plain
    assert 0 < lookup.accepted < lookup.drafted


# --- the guard


def timed(token: float, *rows: tuple[int, float]) -> ModeTimes:
    return ModeTimes(step_ms=100.0, token_ms=token, rows_ms=rows)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (None, True),
        (timed(10.0), True),
        (timed(10.0, (1, 10.0), (4, 90.0)), True),
        (timed(10.0, (1, 10.0), (8, 39.9), (16, 90.0)), True),
        (timed(10.0, (8, 40.0)), True),
        (timed(10.0, (8, 40.1)), False),
    ],
)
def test_lookup_pays_where_eight_rows_cost_at_most_four_tokens(
    times: ModeTimes | None, expected: bool
) -> None:
    assert pays(times) is expected
    assert isinstance(lookup_of(ar(), times), Lookup) is expected
    assert (left_off(ar(), times) is None) is expected


def test_whoever_does_not_ask_gets_none_and_is_told_nothing() -> None:
    for times in (None, timed(1.0, (8, 99.0))):
        assert lookup_of(Settings(mode="ar"), times) is None
        assert left_off(Settings(mode="ar"), times) is None


def test_the_line_about_it_says_what_was_measured() -> None:
    assert_says(left_off(ar(), timed(12.5, (8, 99.4))), "lookup", 8, 99.4, 12.5, 4, "--tune")


def test_a_guarded_answer_has_no_drafts() -> None:
    model = WritingModel(by_last(1))
    model.choices = Choices(times=timed(1.0, (8, 99.0)))
    list(write(model, PROMPT, ar(max_tokens=40, temperature=0)))
    assert model.asked("rows") == []
    model.choices = Choices(times=timed(1.0, (8, 2.0)))
    list(write(model, PROMPT, ar(max_tokens=40, temperature=0)))
    assert model.asked("rows")
