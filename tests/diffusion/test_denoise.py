"""The loop against a plain one, and each of its promises on models that say what they are asked."""

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from facts import raises
from fake_model import (
    CertainModel,
    FakeModel,
    Floats,
    H,
    answering,
    in_turn,
    tiny_config,
    wanting,
)
from metal_sim import simulated
from numpy.typing import NDArray
from plain import assert_same, lively_model, plain, plain_loop, plain_soft

from mlx_diffgemma.checkpoint.generation import SamplerDefaults
from mlx_diffgemma.diffusion import soft as soft_embeddings
from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.errors import NumericsError, PromptError, SettingsError
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.prompt import token_budget
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.kernels import dispatch

PROMPT = [3, 1, 4, 1, 5]


def steps_of(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if not frame.committed]


def answers_of(frames: list[Frame]) -> list[list[int]]:
    return [frame.tokens.tolist() for frame in frames if frame.committed]


# --- the plain loop

SAMPLERS = [
    {"max_denoising_steps": steps, "stability_threshold": stability, "confidence_threshold": nats}
    for steps, stability, nats in product([1, 4, 12], [0, 1, 3], [0.005, 0.5])
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("max_tokens", [1, 6, 20])
def test_the_loop_is_the_plain_loop(sampler: dict[str, Any], max_tokens: int) -> None:
    model = lively_model(stop_ids=[11])
    settings = Settings(max_tokens=max_tokens, entropy_bound=2.0, **sampler)
    noise = CounterNoise(1000 * max_tokens + sampler["max_denoising_steps"])
    frames = list(denoise(model, PROMPT, settings, noise))
    assert_same(frames, list(plain_loop(plain(model), PROMPT, settings, noise)))


@pytest.mark.parametrize("bound", [1e-6, 0.1, 1.0, 5.0, 1e6])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_loop_is_the_plain_loop_at_any_entropy_bound(bound: float, seed: int) -> None:
    model, noise = lively_model(), CounterNoise(seed)
    settings = Settings(max_tokens=18, entropy_bound=bound, confidence_threshold=0.5)
    frames = list(denoise(model, PROMPT, settings, noise))
    assert_same(frames, list(plain_loop(plain(model), PROMPT, settings, noise)))


def test_the_cases_above_stop_early_and_run_out_and_accept_some() -> None:
    """Without this the comparisons could all have been of one kind."""
    model, settings = lively_model(), Settings(max_tokens=60, entropy_bound=2.0)
    frames = list(denoise(model, PROMPT, replace(settings, confidence_threshold=0.5, seed=3)))
    counts = {frame.step + 1 for frame in frames if frame.committed}
    assert min(counts) > 1
    assert max(counts) < 48
    shares = {frame.accepted.mean() for frame in steps_of(frames)}
    assert len(shares) > 3
    assert max(shares) == 1.0
    frames = list(denoise(model, PROMPT, replace(settings, confidence_threshold=1e-9, seed=3)))
    assert {frame.step + 1 for frame in frames if frame.committed} == {48}


def test_a_warm_start_is_the_plain_loops_and_ends_with_the_first_canvas() -> None:
    model, noise = lively_model(), CounterNoise(4)
    settings = Settings(max_tokens=12, max_denoising_steps=5, entropy_bound=2.0)
    canvas = [9, 8, 7, 6, 5, 4]
    soft = np.random.default_rng(1).normal(0, 3, (6, 40)).astype(np.float32)
    frames = list(
        denoise(model, PROMPT, settings, noise, canvas=mx.array(canvas), soft=mx.array(soft))
    )
    expected = list(
        plain_loop(plain(model), PROMPT, settings, noise, canvas, soft.astype(np.float64))
    )
    assert_same(frames, expected)
    decodes = model.asked("decode")
    assert decodes[0][0].tolist() == canvas
    assert_close(decodes[0][1], plain_soft(model, soft.astype(np.float64)), 1e-5, "first soft")
    assert decodes[5][0].tolist() == noise.canvas(1, 6, 40).tolist()
    assert decodes[5][1] is None


def test_a_warm_start_may_be_a_canvas_alone() -> None:
    model = lively_model()
    next(
        iter(denoise(model, PROMPT, Settings(max_tokens=6), canvas=mx.array([[1, 2, 3, 4, 5, 6]])))
    )
    ids, soft = model.asked("decode")[0]
    assert ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert soft is None


@pytest.mark.parametrize(
    ("start", "facts"),
    [
        ({"canvas": mx.zeros(5, mx.int32)}, "canvas ... [5] ... [6]"),
        ({"canvas": mx.zeros(6)}, "canvas ... float32 [6] ... whole numbers"),
        ({"canvas": mx.zeros((2, 3), mx.int32)}, "canvas ... int32 [2, 3] ... [1, L]"),
        ({"canvas": [1.5] * 6}, "canvas ... '1.5' at position 0"),
        ({"canvas": mx.full((6,), 40)}, "canvas ... 40 ... vocabulary of 40"),
        ({"canvas": mx.full((6,), -1)}, "canvas ... -1 ... vocabulary of 40"),
        ({"canvas": np.full(6, 2**32, np.int64)}, "canvas ... 4294967296 ... vocabulary of 40"),
        ({"soft": mx.zeros((6, 40))}, "soft logits ... canvas ... both"),
        ({"soft": mx.zeros((40, 6))}, "soft logits ... [40, 6] ... [6, 40]"),
        ({"soft": mx.zeros((6, 40), mx.int32)}, "soft logits ... int32 ... [6, 40]"),
        (
            {"canvas": mx.zeros(6, mx.int32), "soft": mx.zeros((6, 8))},
            "soft logits ... [6, 8] ... [6, 40]",
        ),
    ],
)
def test_a_warm_start_that_is_none_is_refused_at_the_call(
    start: dict[str, Any], facts: str
) -> None:
    """A float canvas was cut to whole numbers, and soft logits were known by their size."""
    with raises(SettingsError, facts):
        denoise(lively_model(), PROMPT, **start)


def test_a_warm_start_may_be_numpys() -> None:
    frames = []
    for kind in (mx.array, np.array):
        canvas, soft = kind([1, 2, 3, 4, 5, 6]), kind(np.ones((1, 6, 40), np.float32))
        settings = Settings(max_tokens=6, seed=2)
        frames.append(list(denoise(lively_model(), PROMPT, settings, canvas=canvas, soft=soft)))
    assert [f.tokens.tolist() for f in frames[0]] == [f.tokens.tolist() for f in frames[1]]


@pytest.mark.parametrize(
    ("tokens", "facts"),
    [
        ([3, 1.0], "the prompt has a float '1.0'"),
        (np.array([[3], [1]]), "the prompt has int64 [2, 1]"),
        ([3, 40], "token id 40"),
        ("31", "the prompt has a str"),
    ],
)
def test_a_prompt_that_is_no_ids_is_refused_at_the_call(tokens: Any, facts: str) -> None:
    with raises(PromptError, facts):
        denoise(lively_model(), tokens)


def test_a_prefix_of_another_model_is_refused_at_the_call() -> None:
    with raises(PromptError, "another model's"):
        denoise(lively_model(), PROMPT, prefix=lively_model().encode(PROMPT[:3]))


# --- rows at a time


def set_chunk(monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    for device in ("CPU", "GPU"):
        monkeypatch.setattr(f"mlx_diffgemma.diffusion.step.{device}_CHUNK_LOGITS", logits)


@pytest.mark.parametrize(
    ("logits", "rows"), [(240, [6]), (120, [3, 3]), (160, [4, 2]), (1, [1] * 6)]
)
def test_a_head_in_chunks_gives_the_same_frames(
    logits: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(max_tokens=18, max_denoising_steps=6, entropy_bound=2.0)
    whole = list(denoise(lively_model(), PROMPT, settings, CounterNoise(5)))
    set_chunk(monkeypatch, logits)
    model = lively_model()
    parts = list(denoise(model, PROMPT, settings, CounterNoise(5)))
    assert model.asked("logits")[: len(rows)] == rows
    assert len(parts) == len(whole)
    for got, want in zip(parts, whole, strict=True):
        assert got.tokens.tolist() == want.tokens.tolist()
        assert got.accepted.tolist() == want.accepted.tolist()
        assert_close(got.entropies, want.entropies, 1e-5, "entropies")  # another matmul's rounding


# --- when to stop

A, B = [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize(
    ("stability", "wanted", "steps"),
    [
        (0, [A, B], 1),
        (1, [A, A], 2),
        (1, [A, B, A, A], 4),
        (2, [A, A, B, B, B], 5),
        (3, [A, A, A, A], 4),
        (3, [A, A, B, A, A, A, B, B, B, B], 10),
        (3, [A, B, B, B, A, B, B, B, B], 9),
    ],
)
def test_a_canvas_is_settled_once_it_equals_that_many_before_it(
    stability: int, wanted: list[list[int]], steps: int
) -> None:
    model = CertainModel(tiny_config(), in_turn(*wanted))
    settings = Settings(max_tokens=6, stability_threshold=stability)
    frames = list(denoise(model, PROMPT, settings))
    assert [frame.step for frame in frames] == [*range(steps), steps - 1]
    assert answers_of(frames) == [wanted[steps - 1]]


def test_a_stable_canvas_that_is_not_certain_runs_to_the_end() -> None:
    model = CertainModel(tiny_config(), in_turn(A))
    model.gap = 2.0
    frames = list(denoise(model, PROMPT, Settings(max_tokens=6, max_denoising_steps=7)))
    assert len(steps_of(frames)) == 7
    assert frames[0].mean_entropy > 0.005


def test_confidence_is_a_mean_entropy_strictly_below_the_threshold() -> None:
    model = CertainModel(tiny_config(), in_turn(A))
    model.gap = 2.0
    settings = Settings(max_tokens=6, max_denoising_steps=2, stability_threshold=0)
    entropy = next(iter(denoise(model, PROMPT, settings))).mean_entropy
    for threshold, steps in ((entropy, 2), (entropy * 1.001, 1)):
        frames = list(denoise(model, PROMPT, replace(settings, confidence_threshold=threshold)))
        assert frames[0].mean_entropy == entropy
        assert len(steps_of(frames)) == steps


def test_history_does_not_reach_into_the_next_canvas() -> None:
    """The second canvas begins with what the first ended on, and still has to see it twice."""
    model = CertainModel(tiny_config(), in_turn(A))
    frames = list(denoise(model, PROMPT, Settings(max_tokens=18)))
    assert [frame.step for frame in frames if frame.committed] == [1, 1, 1]


def test_the_argmax_is_committed_and_not_the_accepted_canvas() -> None:
    """With one step nothing but the argmax can be certain: the draw at t = 0.8 is not."""
    model = CertainModel(tiny_config(), in_turn(A))
    model.gap = 0.5
    settings = Settings(max_tokens=6, max_denoising_steps=1, entropy_bound=1e6)
    assert answers_of(list(denoise(model, PROMPT, settings))) == [A]


def test_a_position_accepted_once_may_be_renoised_at_the_next_step() -> None:
    frames = steps_of(list(denoise(lively_model(), PROMPT, Settings(max_tokens=60, seed=1))))
    lost = [(a.accepted & ~b.accepted).any() for a, b in pairwise(frames) if a.canvas == b.canvas]
    assert any(lost)


# --- where an answer ends


def scripted(script: list[int], **config: Any) -> CertainModel:
    return CertainModel(tiny_config(**config), answering(len(PROMPT), script))


@pytest.mark.parametrize("place", [0, 1, 5, 6, 7, 11, 12, 17])
def test_the_answer_ends_with_the_first_stop_id(place: int) -> None:
    script = [10 + i for i in range(18)]
    script[place : place + 1] = [2]
    frames = list(denoise(scripted(script, stop_ids=[1, 2]), PROMPT, Settings(max_tokens=18)))
    answers = answers_of(frames)
    assert [token for answer in answers for token in answer] == script[: place + 1]
    assert len(answers) == place // 6 + 1
    assert [f.finish_reason for f in frames] == [None] * (len(frames) - 1) + ["stop"]


def test_the_first_of_two_stop_ids_in_a_canvas_counts() -> None:
    model = scripted([10, 11, 1, 12, 2, 13], stop_ids=[2, 1])
    assert answers_of(list(denoise(model, PROMPT, Settings(max_tokens=6)))) == [[10, 11, 1]]


def test_a_stop_id_at_once_is_an_empty_answer_and_nothing_is_rolled_again() -> None:
    model = scripted([2, 10, 11], stop_ids=[2])
    frames = list(denoise(model, PROMPT, Settings(max_tokens=600)))
    assert answers_of(frames) == [[2]]
    assert frames[-1].finish_reason == "stop"
    assert len(model.asked("decode")) == 2


def test_stop_ids_are_the_checkpoints_own() -> None:
    script = [1, 50, 106, 2, 0, 1]
    model = CertainModel(tiny_config(vocab=128, stop_ids=[]), answering(len(PROMPT), script))
    frames = list(denoise(model, PROMPT, Settings(max_tokens=6)))
    assert answers_of(frames) == [script]
    assert frames[-1].finish_reason == "length"


@pytest.mark.parametrize("max_tokens", [1, 5, 6, 7, 11, 12, 13])
def test_max_tokens_cuts_the_last_whole_canvas(max_tokens: int) -> None:
    script = [10 + i for i in range(18)]
    model = scripted(script)
    frames = list(denoise(model, PROMPT, Settings(max_tokens=max_tokens)))
    answers = answers_of(frames)
    assert [token for answer in answers for token in answer] == script[:max_tokens]
    assert len(answers) == -(-max_tokens // 6)
    assert frames[-1].finish_reason == "length"
    assert all(len(frame.tokens) == 6 for frame in steps_of(frames))


def test_a_stop_id_behind_max_tokens_is_no_stop() -> None:
    frames = list(denoise(scripted([10, 11, 12, 2], stop_ids=[2]), PROMPT, Settings(max_tokens=3)))
    assert answers_of(frames) == [[10, 11, 12]]
    assert frames[-1].finish_reason == "length"


def test_a_stop_id_that_is_the_last_allowed_token_is_a_stop() -> None:
    frames = list(denoise(scripted([10, 11, 12, 2], stop_ids=[2]), PROMPT, Settings(max_tokens=4)))
    assert frames[-1].finish_reason == "stop"


# --- frames


def test_a_committed_frame_repeats_the_last_step_of_its_canvas() -> None:
    settings = Settings(max_tokens=14, max_denoising_steps=5, entropy_bound=2.0)
    frames = list(denoise(lively_model(), PROMPT, settings, CounterNoise(2)))
    assert [f.canvas for f in frames if f.committed] == [0, 1, 2]
    for number in range(3):
        *steps, committed = [frame for frame in frames if frame.canvas == number]
        assert [frame.step for frame in steps] == list(range(len(steps)))
        assert [frame.committed for frame in (*steps, committed)] == [False] * len(steps) + [True]
        last = steps[-1]
        assert committed.step == last.step
        assert committed.temperature == last.temperature
        assert committed.tokens.tolist() == last.tokens.tolist()[: len(committed.tokens)]
        assert committed.accepted.tolist() == last.accepted.tolist()
        assert committed.entropies.tolist() == last.entropies.tolist()
        assert committed.seconds == 0.0  # else a sum over all frames would count a step twice


def test_a_frame_holds_plain_arrays_of_the_canvas() -> None:
    frame = next(iter(denoise(lively_model(), PROMPT, Settings(max_tokens=6))))
    assert (frame.tokens.dtype, frame.tokens.shape) == (np.int32, (6,))
    assert (frame.entropies.dtype, frame.entropies.shape) == (np.float32, (6,))
    assert (frame.accepted.dtype, frame.accepted.shape) == (np.bool_, (6,))
    assert frame.temperature == 0.8
    assert frame.mean_entropy == pytest.approx(frame.entropies.mean())
    assert frame.seconds > 0
    assert frame.text == ""


def test_temperatures_follow_the_schedule_anew_in_each_canvas() -> None:
    settings = Settings(max_tokens=12, max_denoising_steps=4, t_min=0.2, t_max=1.0)
    frames = steps_of(list(denoise(lively_model(), PROMPT, settings, CounterNoise(1))))
    expected = [1.0, 0.8, 0.6, 0.4]
    for number in (0, 1):
        got = [frame.temperature for frame in frames if frame.canvas == number]
        assert_close(got, expected[: len(got)], 1e-12, "temperatures")


def test_frames_come_as_their_steps_are_done() -> None:
    model = scripted([10 + i for i in range(18)])
    order = []
    for frame in denoise(model, PROMPT, Settings(max_tokens=12)):
        order.append(("committed" if frame.committed else "frame", frame.canvas, frame.step))
        order.append(("decodes", len(model.asked("decode"))))
        order.append(("encoded", sum(map(len, model.asked("encode")))))
    assert order == [
        *[("frame", 0, 0), ("decodes", 1), ("encoded", 5)],
        *[("frame", 0, 1), ("decodes", 2), ("encoded", 5)],
        *[("committed", 0, 1), ("decodes", 2), ("encoded", 5)],
        *[("frame", 1, 0), ("decodes", 3), ("encoded", 11)],
        *[("frame", 1, 1), ("decodes", 4), ("encoded", 11)],
        *[("committed", 1, 1), ("decodes", 4), ("encoded", 11)],
    ]


def test_nothing_runs_before_the_first_frame_is_asked_for() -> None:
    model = lively_model()
    frames = denoise(model, PROMPT)
    assert model.events == []
    next(iter(frames))
    assert len(model.asked("decode")) == 1


def test_a_generator_closed_early_does_no_more_work() -> None:
    model = lively_model()
    frames = denoise(model, PROMPT, Settings(max_tokens=600, seed=1))
    for _ in range(3):
        next(iter(frames))
    before = list(model.events)
    frames.close()  # type: ignore[attr-defined]
    assert len(model.events) == len(before)
    assert list(frames) == []
    assert len(model.asked("decode")) == 3


def test_the_same_seed_gives_the_same_frames_and_another_seed_others() -> None:
    def tokens(seed: int) -> list[list[int]]:
        settings = Settings(max_tokens=12, max_denoising_steps=4, seed=seed)
        return [frame.tokens.tolist() for frame in denoise(lively_model(), PROMPT, settings)]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)
    assert tokens(7) != tokens(7 + 2**32)


def test_each_canvas_and_step_asks_for_its_own_noise() -> None:
    asked: list[tuple[str, int, int]] = []

    class Recorder(CounterNoise):
        def canvas(self, canvas: int, length: int, vocab: int) -> mx.array:
            assert (length, vocab) == (6, 40)
            asked.append(("canvas", canvas, 0))
            return super().canvas(canvas, length, vocab)

        def renoise(self, canvas: int, step: int, length: int, vocab: int) -> mx.array:
            assert (length, vocab) == (6, 40)
            asked.append(("renoise", canvas, step))
            return super().renoise(canvas, step, length, vocab)

        def uniforms(self, canvas: int, step: int, length: int) -> mx.array:
            assert length == 6
            asked.append(("uniforms", canvas, step))
            return super().uniforms(canvas, step, length)

    settings = Settings(max_tokens=12, max_denoising_steps=3, confidence_threshold=1e-9)
    list(denoise(lively_model(), PROMPT, settings, Recorder(1)))
    steps = [(name, n, s) for n in (0, 1) for s in (0, 1, 2) for name in ("renoise", "uniforms")]
    assert sorted(asked) == sorted([*steps, ("canvas", 0, 0), ("canvas", 1, 0)])


# --- what is encoded


def test_the_prompt_and_each_canvas_but_the_last_are_encoded_once() -> None:
    script = [10 + i for i in range(18)]
    model = scripted(script)
    list(denoise(model, mx.array([PROMPT]), Settings(max_tokens=16)))
    assert model.asked("encode") == [PROMPT, script[:6], script[6:12]]


def test_a_canvas_that_ends_the_answer_is_not_encoded() -> None:
    model = scripted([10, 11, 12, 13, 14, 15, 2], stop_ids=[2])
    list(denoise(model, PROMPT, Settings(max_tokens=600)))
    assert model.asked("encode") == [PROMPT, [10, 11, 12, 13, 14, 15]]


def test_what_a_given_prefix_holds_is_not_encoded_again() -> None:
    model = lively_model()
    settings = Settings(max_tokens=12, max_denoising_steps=3, seed=2)
    expected = [frame.tokens.tolist() for frame in denoise(lively_model(), PROMPT, settings)]
    prefix = model.encode(PROMPT[:3])
    frames = list(denoise(model, PROMPT, settings, prefix=prefix))
    assert model.asked("encode")[1] == PROMPT[3:]
    assert prefix.tokens[:5] == PROMPT
    assert prefix.marked == 5
    assert [frame.tokens.tolist() for frame in frames] == expected


def test_a_prefix_that_holds_the_whole_prompt_needs_no_encoding() -> None:
    model = lively_model()
    prefix = model.encode(PROMPT)
    list(denoise(model, PROMPT, Settings(max_tokens=6, max_denoising_steps=2), prefix=prefix))
    assert model.asked("encode") == [PROMPT]


@pytest.mark.parametrize("held", [[3, 1, 9], [*PROMPT, 9]])
def test_a_prefix_of_another_prompt_is_refused_at_the_call(held: list[int]) -> None:
    model = lively_model()
    with pytest.raises(PromptError, match="prefix holds other tokens"):
        denoise(model, PROMPT, prefix=model.encode(held))


def test_progress_tells_of_the_prompt_only() -> None:
    told: list[tuple[int, int]] = []
    settings = Settings(max_tokens=12, max_denoising_steps=1)
    list(denoise(lively_model(), PROMPT, settings, progress=lambda *at: told.append(at)))
    assert told == [(5, 5)]


# --- what cannot run


def test_an_empty_prompt_is_refused_at_the_call() -> None:
    with raises(PromptError, "empty ... at least one token"):
        denoise(lively_model(), [])


@pytest.mark.parametrize(
    ("length", "max_tokens", "facts"),
    [
        (20, 19, "20 prompt tokens ... 4 canvases of 6 ... 44 positions ... 40"),
        (35, 1, "35 prompt tokens ... 1 canvas of 6 ... 41 positions ... 40"),
        (35, None, "35 prompt tokens ... 1 canvas of 6 ... 41 positions ... 40"),
        (1500, None, "1,500 prompt tokens ... 1 canvas of 6 ... 1,506 positions ... 40"),
        (40, 600, "40 prompt tokens ... 100 canvases of 6 ... 640 positions ... 40"),
    ],
)
def test_a_prompt_that_does_not_fit_with_whole_canvases_is_refused_with_the_numbers(
    length: int, max_tokens: int | None, facts: str
) -> None:
    model = lively_model(context=40)
    with raises(PromptError, facts, "prompt ... max_tokens"):
        denoise(model, [1] * length, Settings(max_tokens=max_tokens))
    assert model.events == []


@pytest.mark.parametrize(
    ("length", "max_tokens", "budget"),
    [(20, 18, 18), (20, 13, 13), (34, 6, 6), (34, None, 6), (20, None, 18), (22, None, 18)],
)
def test_what_fits_to_the_last_position_is_allowed(
    length: int, max_tokens: int | None, budget: int
) -> None:
    assert token_budget(tiny_config(context=40), length, max_tokens) == budget


def test_max_tokens_unset_means_1024() -> None:
    assert token_budget(tiny_config(context=4096), 5, None) == 1024
    assert token_budget(tiny_config(context=1031, canvas=256), 7, None) == 1024
    assert token_budget(tiny_config(context=1030, canvas=256), 7, None) == 768
    frames = list(denoise(scripted([10] * 2000, context=40), PROMPT))
    assert sum(map(len, answers_of(frames))) == 30


@pytest.mark.parametrize("step", [0, 1])
def test_numbers_that_are_not_finite_name_the_tensor(step: int) -> None:
    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        broken = len(model.asked("decode")) > step
        return np.full((6, H), np.nan, np.float32) if broken else wanting(A)

    model = FakeModel(tiny_config(), network)
    model.find_non_finite = lambda: "model.decoder.norm.weight"  # type: ignore[method-assign]
    frames = denoise(model, PROMPT, Settings(max_tokens=6))
    seen: list[Frame] = []
    where, then = f"canvas 0, step {step}", "download ... convert ... --dtype"
    with raises(NumericsError, where, "not finite ... model.decoder.norm.weight", then):
        seen.extend(frames)
    assert len(model.asked("decode")) == step + 1


def test_numbers_that_overflow_from_finite_weights_say_so() -> None:
    model = FakeModel(tiny_config(), lambda *_: np.full((6, H), np.nan, np.float32))
    with pytest.raises(NumericsError, match="all weights are finite; download"):
        next(iter(denoise(model, PROMPT)))


# --- which way the soft embedding takes

STILL = {"max_tokens": 6, "max_denoising_steps": 3, "stability_threshold": 5}


def paths(model: FakeModel) -> set[str]:
    names = {"soft_embedding", "mixed_embedding", "gathered_embedding"}
    return names & {event[0] for event in model.events}


def test_float32_mixes_with_the_weights_of_the_draw() -> None:
    model = scripted(A)
    frames = list(denoise(model, PROMPT, Settings(**STILL)))
    assert paths(model) == {"mixed_embedding"}
    assert [frame.dense_rows for frame in steps_of(frames)] == [6, 6, 6]


def test_16_bits_take_the_whole_product_where_a_gather_would_find_nothing_to_leave_out() -> None:
    model = scripted(A)
    model.dtype = mx.bfloat16
    frames = list(denoise(model, PROMPT, Settings(**STILL)))
    assert paths(model) == {"soft_embedding"}
    assert [frame.dense_rows for frame in steps_of(frames)] == [6, 6, 6]


@pytest.mark.parametrize("chunk", [240, 80])
def test_16_bits_gather_and_only_rows_that_need_it_go_dense(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of A whose id is odd (1, 3, 5) fail the bound; the others keep the gathered 7s."""
    set_chunk(monkeypatch, chunk)
    model = scripted(A)
    model.dtype, model.gathers = mx.bfloat16, True
    frames = list(denoise(model, PROMPT, Settings(**STILL)))
    assert [frame.dense_rows for frame in steps_of(frames)] == [3, 3, 3]
    soft = model.asked("decode")[1][1]
    assert (soft[1::2] == 7).all()
    assert_close(soft[::2], model.table[[1, 3, 5]] * 8**0.5, 1e-6, "dense rows")  # certain ids


def test_the_dense_rows_of_the_last_step_are_never_made() -> None:
    model = scripted(A)
    model.dtype, model.gathers = mx.bfloat16, True
    list(denoise(model, PROMPT, Settings(**STILL)))
    assert model.asked("soft_embedding") == [3, 3]  # between three steps
    assert len(model.asked("gathered_embedding")) == 3


def test_rows_of_all_chunks_take_their_product_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk of two rows lacks one: a product of 3 rows, not three of 1."""
    set_chunk(monkeypatch, 80)  # 2 rows of 40
    model = scripted(A)
    model.dtype, model.gathers = mx.bfloat16, True
    list(denoise(model, PROMPT, Settings(**STILL)))
    assert model.asked("gathered_embedding") == [2, 2, 2] * 3
    assert model.asked("soft_embedding") == [3] * 2  # between three steps


def test_a_product_has_so_many_rows_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_embeddings, "PRODUCT_ROWS", 2)
    model = scripted(A)
    model.dtype, model.gathers = mx.bfloat16, True
    list(denoise(model, PROMPT, Settings(**STILL)))
    assert model.asked("soft_embedding") == [2, 1] * 2  # between three steps
    embeddings = model.asked("decode")[1][1]
    assert_close(embeddings[::2], model.table[[1, 3, 5]] * 8**0.5, 1e-6, "dense rows")


def test_rows_that_all_suffice_need_no_product() -> None:
    model = scripted([2, 4, 6, 8, 10, 12])
    model.dtype, model.gathers = mx.bfloat16, True
    frames = list(denoise(model, PROMPT, Settings(**STILL)))
    assert paths(model) == {"gathered_embedding"}
    assert {frame.dense_rows for frame in frames} == {0}


def test_exact_self_conditioning_never_gathers() -> None:
    model = scripted(A)
    model.dtype, model.gathers = mx.bfloat16, True
    frames = list(denoise(model, PROMPT, Settings(**STILL, exact_self_conditioning=True)))
    assert paths(model) == {"soft_embedding"}
    assert [frame.dense_rows for frame in steps_of(frames)] == [6, 6, 6]
    soft = model.asked("decode")[1][1]
    assert_close(soft, model.table[A] * 8**0.5, 1e-6, "soft embeddings")  # the ids are certain


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_kernels_leave_the_whole_product_to_the_next_step(
    dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the last step never pays for it; frames are those of the references."""
    set_chunk(monkeypatch, 160)  # 4 rows, then 2
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    references = list(denoise(scripted(A), PROMPT, Settings(**STILL, seed=1)))
    model = scripted(A)
    model.dtype = dtype
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    with simulated() as run:
        frames = list(denoise(model, PROMPT, Settings(**STILL, seed=1)))
    dispatch.forget()
    assert len(run.launches) == 3 * (2 + 1)  # the canvas at once: nobody needs float32 copies
    assert paths(model) == {"soft_embedding"}
    assert model.asked("soft_embedding") == [6] * 2  # between three steps
    assert [frame.dense_rows for frame in steps_of(frames)] == [6, 6, 6]
    for got, want in zip(frames, references, strict=True):
        assert got.tokens.tolist() == want.tokens.tolist()
        assert got.accepted.tolist() == want.accepted.tolist()
        assert_close(got.entropies, want.entropies, 1e-5, "entropies")


def test_the_checkpoints_sampler_is_the_default() -> None:
    own = SamplerDefaults(max_denoising_steps=3, t_min=0.1, t_max=0.9, stability_threshold=9)
    frames = list(denoise(lively_model(sampler=own), PROMPT, Settings(max_tokens=6)))
    assert len(steps_of(frames)) == 3
    assert frames[0].temperature == 0.9
