"""The loop of mode ar against a plain one, and each of its promises about prefix and pipeline."""

import math
from itertools import accumulate
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import Sizes, write_checkpoint
from facts import raises
from fake_model import tiny_config
from small import picture
from writing import VOCAB, Rule, WritingModel, answer, by_last, drawn_again, saying

import mlx_diffgemma as dg
from mlx_diffgemma.autoregressive.write import write
from mlx_diffgemma.errors import NumericsError, PromptError
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.model.prefix import Prefix

PROMPT = [3, 1, 4, 1, 5]
RULE = by_last(2)


def ar(**given: Any) -> Settings:
    return Settings(mode="ar", **{"seed": 7, **given})


def frames_of(
    model: Any, settings: Settings, prompt: list[int] = PROMPT, **more: Any
) -> list[Frame]:
    return list(write(model, prompt, settings, **more))


@pytest.mark.parametrize(
    ("canvas", "temperature"), [(1, 0.0), (1, 2.0), (3, 1.0), (5, 0.0), (64, 0.0), (64, 1.0)]
)
def test_the_answer_is_that_of_a_plain_loop_in_segments_of_any_length(
    canvas: int, temperature: float
) -> None:
    settings = ar(max_tokens=23, temperature=temperature)
    model = WritingModel(RULE, tiny_config(VOCAB, canvas))
    frames = frames_of(model, settings)
    expected = answer(frames)
    assert expected == drawn_again(RULE, PROMPT, expected, settings, model.config)
    assert len(expected) == 23
    shown = [frame for frame in frames if not frame.committed]
    assert [(f.canvas, f.step) for f in shown] == [divmod(at, canvas) for at in range(23)]
    for at, frame in enumerate(shown):
        assert frame.tokens.tolist() == expected[at - frame.step : at + 1]
        assert frame.mode == "ar"
        assert frame.temperature == temperature
        assert frame.accepted.all()
        assert frame.top_probability is None
        assert np.isnan(frame.entropies).all()
    committed = [frame for frame in frames if frame.committed]
    assert [frame.finish_reason for frame in committed] == [None] * (len(committed) - 1) + [
        "length"
    ]


@pytest.mark.parametrize("lookup", [False, True])
def test_the_noise_does_not_run_out(lookup: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_diffgemma.autoregressive.write.AHEAD", 16)
    settings = ar(max_tokens=50, temperature=0.3, lookup=lookup)
    model = WritingModel(RULE, tiny_config(VOCAB, 19))
    got = answer(frames_of(model, settings))
    assert got == drawn_again(RULE, PROMPT, got, settings, model.config)
    assert len(got) == 50


def test_the_next_step_is_submitted_before_a_token_is_read() -> None:
    model = WritingModel(RULE, tiny_config(VOCAB, 8))
    counts = [
        len(model.asked("step")) for f in write(model, PROMPT, ar(max_tokens=20)) if not f.committed
    ]
    assert counts == [min(at + 2, 8 * (at // 8 + 1), 20) for at in range(20)]
    assert model.asked("rows") == []


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 12])
def test_a_stop_discards_the_token_ahead_and_leaves_all_but_the_last_in_the_prefix(
    length: int,
) -> None:
    """Also where the stop is a segment's first or last token."""
    model = WritingModel(saying([8] * (length - 1) + [2], 5), tiny_config(VOCAB, 6, stop_ids=[2]))
    prefix = model.new_prefix()
    frames = frames_of(model, ar(max_tokens=20), prefix=prefix)
    assert answer(frames) == [8] * (length - 1) + [2]
    assert frames[-1].finish_reason == "stop"
    assert prefix.tokens == [*PROMPT, *answer(frames)[:-1]]


def test_one_token_takes_one_step() -> None:
    model = WritingModel(RULE)
    frames = frames_of(model, ar(max_tokens=1))
    assert [frame.committed for frame in frames] == [False, True]
    assert len(model.asked("step")) == 1
    assert model.texts == [PROMPT[:-1]]


def test_a_prompt_of_one_token_is_the_first_step() -> None:
    model = WritingModel(RULE)
    settings = ar(max_tokens=9)
    got = answer(frames_of(model, settings, [11]))
    assert got == drawn_again(RULE, [11], got, settings, model.config)
    assert model.texts == []


def test_the_context_is_filled_to_its_last_position() -> None:
    model = WritingModel(RULE, tiny_config(VOCAB, 6, context=16))
    assert len(answer(frames_of(model, ar(max_tokens=11)))) == 11
    assert len(answer(frames_of(model, ar()))) == 11
    assert max(model.asked("step")) == 14, "the last token of all needs no keys"
    with raises(PromptError, "5 prompt tokens", "12 tokens", "17", "16"):
        write(model, PROMPT, ar(max_tokens=12))


def test_an_exact_repeat_of_a_prompt_goes_back_one_token() -> None:
    model = WritingModel(RULE)
    prefix = model.encode(PROMPT)
    first = answer(frames_of(model, ar(max_tokens=9), prefix=prefix))
    assert model.texts == [PROMPT]
    prefix.roll_back(prefix.shared(PROMPT))
    assert answer(frames_of(model, ar(max_tokens=9), prefix=prefix)) == first
    assert model.texts == [PROMPT]


@pytest.mark.parametrize("lookup", [False, True])
def test_an_answer_left_at_any_token_leaves_a_prefix_to_go_on_from(lookup: bool) -> None:
    rule = by_last(1)
    settings = ar(max_tokens=14, temperature=0, lookup=lookup)
    question = [20, 21]
    for count in (1, 2, 3, 5, 6, 7, 9, 11, 12, 13, 16, 17):
        model = WritingModel(rule, tiny_config(VOCAB, 5))
        prefix, frames = model.new_prefix(), []
        for frame in write(model, PROMPT, settings, prefix=prefix):
            frames.append(frame)
            if len(frames) == count:
                break
        done = [token for f in frames if f.committed for token in f.tokens.tolist()]
        shown = done if frames[-1].committed else [*done, *frames[-1].tokens.tolist()]
        held, text = prefix.tokens, [*PROMPT, *shown]
        assert held[: len(text)] == text[: len(held)]
        assert len(held) >= len(text) - 1
        then = [*text, *question]
        prefix.roll_back(prefix.shared(then))
        assert prefix.length >= len(text) - 1
        got = answer(frames_of(model, settings, then, prefix=prefix))
        assert got == drawn_again(rule, then, got, settings, model.config)


def test_frames_stay_as_they_were_seen_and_cannot_be_changed() -> None:
    seen = [
        (frame, frame.tokens.copy())
        for frame in write(WritingModel(RULE), PROMPT, ar(max_tokens=15))
    ]
    for frame, tokens in seen:
        assert np.array_equal(frame.tokens, tokens)
        with pytest.raises(ValueError, match="read-only"):
            frame.tokens[0] = 1


def test_frames_of_a_segment_share_their_memory() -> None:
    """A token costs no copy of those before it."""
    frames = frames_of(WritingModel(RULE, tiny_config(VOCAB, 64)), ar(max_tokens=30))
    assert all(np.shares_memory(frames[0].tokens, frame.tokens) for frame in frames)


def test_who_watches_sees_entropies() -> None:
    frames = frames_of(WritingModel(RULE), ar(max_tokens=4), watched=True)
    shares = np.exp(RULE(PROMPT).astype(np.float64))
    shares /= shares.sum()
    assert frames[0].mean_entropy == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-5)
    assert frames[0].top_probability == pytest.approx(shares.max(), rel=1e-5)
    assert np.isfinite(frames[-1].entropies).all()


@pytest.mark.parametrize("lookup", [False, True])
def test_logits_that_are_not_finite_are_an_error_that_names_the_token(lookup: bool) -> None:
    def rule(text: Any) -> Any:
        return RULE(text) * (math.nan if len(text) == 8 else 1)

    shown = []
    with raises(NumericsError, "logits of token 3"):
        for frame in write(WritingModel(rule), PROMPT, ar(max_tokens=9, lookup=lookup)):
            shown.append(frame)
    assert len(shown) == 3


# --- prompts with images


IMAGE = 30


def seeing(rule: Rule = RULE) -> WritingModel:
    return WritingModel(rule, tiny_config(VOCAB, 6, image_id=IMAGE))


@pytest.mark.parametrize("before", [[], [4, 5]])
def test_a_prompt_that_ends_with_an_image_is_read_in_one_pass_over_it(before: list[int]) -> None:
    image = picture(1)
    prompt = [*before, *[IMAGE] * image.soft_tokens]
    model, settings = seeing(), ar(max_tokens=8)
    prefix = model.new_prefix()
    frames = frames_of(model, settings, prompt, images=[image], prefix=prefix)
    assert answer(frames) == drawn_again(RULE, prompt, answer(frames), settings, model.config)
    assert model.texts == ([before] if before else [])
    assert model.asked("rows") == [prompt[len(before) :]]
    assert [(run.start, run.stop) for run in prefix.images] == [(len(before), len(prompt))]
    prefix.roll_back(prefix.shared(prompt, prefix.images))
    again = frames_of(model, settings, prompt, images=[image], prefix=prefix)
    assert answer(again) == answer(frames)


def test_an_image_before_the_last_token_is_encoded_with_the_prompt() -> None:
    image = picture(2)
    prompt = [4, *[IMAGE] * image.soft_tokens, 5]
    model, settings = seeing(), ar(max_tokens=8)
    frames = frames_of(model, settings, prompt, images=[image])
    assert answer(frames) == drawn_again(RULE, prompt, answer(frames), settings, model.config)
    assert model.asked("images") == [[image]]
    assert model.asked("rows") == []


def test_a_prompt_that_ends_inside_an_image_is_refused() -> None:
    image = picture(3)
    with raises(PromptError, "1", image.soft_tokens - 1, image.soft_tokens):
        write(seeing(), [4, *[IMAGE] * (image.soft_tokens - 1)], ar(), images=[image])


# --- a network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> dg.Model:
    folder = tmp_path_factory.mktemp("network")
    sizes = Sizes(layers="sf", sliding_window=8, canvas_length=6, std=0.03, sharpness=40.0)
    return dg.load_model(write_checkpoint(folder, sizes), dtype=mx.float32)


def greedy(model: dg.Model, prompt: list[int], count: int) -> list[int]:
    """Whole passes over the whole text, from an empty prefix."""
    texts = accumulate(range(count), lambda text, _: [*text, best(model, text)], initial=prompt)
    return list(texts)[-1][len(prompt) :]


def best(model: dg.Model, text: list[int]) -> int:
    hidden = model.encode_hidden(text, model.new_prefix())
    return int(mx.argmax(model.logits(hidden[:, -1:])))


@pytest.mark.parametrize("length", [1, 8])
def test_a_networks_answer_is_that_of_whole_passes(network: dg.Model, length: int) -> None:
    prompt = list(range(40, 40 + length))
    prefix = network.new_prefix()
    frames = frames_of(network, ar(max_tokens=9, temperature=0), prompt, prefix=prefix)
    assert answer(frames) == greedy(network, prompt, 9)
    assert prefix.tokens == [*prompt, *answer(frames)[:-1]]


def next_logits(model: dg.Model, prefix: Prefix) -> mx.array:
    return model.step(50, prefix)


def test_the_prefix_of_an_answer_is_that_of_encoding_its_text(network: dg.Model) -> None:
    """Left with a step ahead in flight, as Ctrl-C leaves it."""
    for count in (3, 8):  # 8: one behind the end of a segment
        prefix = network.new_prefix()
        frames = write(network, [40, 41, 42], ar(max_tokens=12), prefix=prefix)
        for _ in range(count):
            next(frames)
        del frames
        expected = next_logits(network, network.encode(list(prefix.tokens)))
        assert mx.allclose(next_logits(network, prefix), expected, atol=1e-4)
