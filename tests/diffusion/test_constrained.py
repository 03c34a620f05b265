"""A step's second phase against a plain loop, and a form kept whatever the network wants."""

import re
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import UNSURE_IDS, write_unsure_checkpoint
from compare import assert_close
from facts import raises
from fake_model import CAP, CertainModel, FakeModel, Floats, H, in_turn, tiny_config, wanting
from forms import END, PAD, form_of, held_to, id_of, text_of
from numpy.typing import NDArray
from plain import (
    PlainHeld,
    assert_same,
    lively_model,
    plain,
    plain_accepted,
    plain_entropies,
    plain_loop,
    plain_shares,
)
from random_images import random_pixels

import mlx_diffgemma as dg
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.diffusion.classes import class_order
from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.diffusion.sampler import ClassBias, Logits
from mlx_diffgemma.errors import ConstraintError, NumericsError
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.model.text import Model

PROMPT = [3, 1, 4, 1, 5]
FORMS = ["[0-9]+", "[a-m]{4,15}", "(é|[0-9]{2}x?)+", "yes|no|perhapsé", "[0-9a-zé]*"]
UNSURE = Settings(seed=1, max_tokens=20, max_denoising_steps=5, entropy_bound=2.0)
SAMPLERS = [  # steps at most, stability and confidence
    replace(
        UNSURE, max_denoising_steps=steps, stability_threshold=stable, confidence_threshold=nats
    )
    for steps, stable, nats in ((1, 0, 0.5), (6, 1, 0.5), (5, 2, 0.005))
]


def answer(frames: list[Frame]) -> list[int]:
    return [token for frame in frames if frame.committed for token in frame.tokens.tolist()]


def steps_of(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if not frame.committed]


# --- the plain loop


@pytest.mark.parametrize("pattern", FORMS)
@pytest.mark.parametrize("settings", SAMPLERS, ids=["one step", "soon certain", "stable"])
def test_the_loop_is_the_plain_loop_under_a_form(pattern: str, settings: Settings) -> None:
    model, noise = lively_model(stop_ids=[END]), CounterNoise(len(pattern))
    frames = list(denoise(model, PROMPT, settings, noise, constraint=held_to(pattern, 20)))
    expected = list(
        plain_loop(plain(model), PROMPT, settings, noise, constraint=held_to(pattern, 20))
    )
    assert_same(frames, expected)
    assert re.fullmatch(pattern, text_of(answer(frames)))
    assert frames[-1].finish_reason == "stop"


def test_the_cases_above_settle_and_run_out_over_several_canvases() -> None:
    """Without this the comparisons could all have been of one kind."""
    model, noise = lively_model(stop_ids=[END]), CounterNoise(len("[a-m]{4,15}"))
    ends = [
        frame
        for settings in SAMPLERS
        for frame in denoise(model, PROMPT, settings, noise, constraint=held_to("[a-m]{4,15}", 20))
        if frame.committed
    ]
    assert {frame.settled for frame in ends} == {True, False}
    assert {frame.canvas for frame in ends} >= {0, 1, 2}
    assert any(0 < frame.accepted.mean() < 1 for frame in ends)


def test_a_warm_start_goes_on_under_a_form() -> None:
    model, noise = lively_model(stop_ids=[END]), CounterNoise(4)
    canvas = [9, 8, 7, 6, 5, 4]
    soft = np.random.default_rng(1).normal(0, 3, (6, 40)).astype(np.float32)
    pattern = "[a-z]{7,9}"
    frames = denoise(
        model, PROMPT, UNSURE, noise, canvas=canvas, soft=soft, constraint=held_to(pattern, 20)
    )
    expected = plain_loop(
        plain(model), PROMPT, UNSURE, noise, canvas, soft.astype(float), held_to(pattern, 20)
    )
    assert_same(list(frames), list(expected))


def set_chunk(monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    for device in ("CPU", "GPU"):
        monkeypatch.setattr(f"mlx_diffgemma.diffusion.step.{device}_CHUNK_LOGITS", logits)


def test_a_head_in_chunks_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    constraint = held_to("[a-z]{7,9}", 20)
    padded = class_order(constraint.classes, constraint.num_classes).ids.size
    set_chunk(monkeypatch, 4 * 40 * round(padded / 40))
    model, noise = lively_model(stop_ids=[END]), CounterNoise(4)
    frames = list(denoise(model, PROMPT, UNSURE, noise, constraint=constraint))
    assert model.asked("logits")[:2] == [4, 2]
    expected = plain_loop(plain(model), PROMPT, UNSURE, noise, constraint=held_to("[a-z]{7,9}", 20))
    assert_same(frames, list(expected))


# --- a network of its own


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float16"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random model of two layers; some rows of its early steps need the whole product."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return dg.load_model(write_unsure_checkpoint(folder, request.param, eos_token_id=END))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Soft embeddings that the network was given, and the hidden states it gave for them."""
    calls: list[tuple[Any, ...]] = []
    decode = Model.decode

    def recorded(self: Model, canvas: Any, prefix: Any, soft: Any = None) -> mx.array:
        hidden = decode(self, canvas, prefix, soft)
        calls.append((soft, hidden))
        return hidden

    monkeypatch.setattr(Model, "decode", recorded)
    return calls


def test_each_step_is_what_all_logits_and_the_form_say(
    small: Model, seen: list[tuple[Any, ...]]
) -> None:
    """Of each step's own hidden states, since networks in 16 bits drift apart.

    Entropies to 1e-5 nats: float32 logits of up to 75 lie 4e-6 apart. Soft embeddings to 12 half
    ulps of the dtype at a row's largest value: shares, embeddings, their sum and the scaled sum are
    rounded, and 16 bits leave out up to half an ulp.
    """
    form = form_of(UNSURE_IDS, "([0-9]{2,3}[a-z]+){2,5}")
    settings = replace(UNSURE, seed=5, max_tokens=16, max_denoising_steps=4, stability_threshold=9)
    free = Constraint(form, 16)
    frames = list(denoise(small, [1, 2, 3, 4], settings, constraint=Constraint(form, 16)))
    calls = iter(seen)
    compared = []
    for frame in steps_of(frames):
        if frame.step == 0:
            _, hidden = next(calls)
        processed = processed_of(small, hidden, frame.temperature)
        held = PlainHeld(processed, free)
        entropies = plain_entropies(held.biased)
        assert frame.tokens.tolist() == held.biased.argmax(axis=1).tolist()
        assert_close(frame.entropies, entropies, 1e-5, f"entropies, step {frame.step}")
        assert frame.accepted.tolist() == plain_accepted(entropies.tolist(), 2.0)
        assert frame.strain == pytest.approx(held.strain, rel=1e-5, abs=2e-5)
        compared.append(frame.dense_rows)
        if frame.step + 1 == 4:
            free.commit(held.log_mass, *held.best_of_classes())
        else:
            soft, hidden = next(calls)
            expected = exact_soft(small, processed, held.biased - processed)
            scale = np.abs(expected).max(axis=1, keepdims=True)
            close = 12 * HALF_ULP[small.dtype]
            assert_close(as_float(soft)[0] / scale, expected / scale, close, f"step {frame.step}")
    assert frames[-1].finish_reason == "stop"
    assert (min(compared) > 0) == (small.dtype == mx.float32)
    assert max(compared) > 0


HALF_ULP = {mx.float32: 2.0**-20, mx.bfloat16: 2.0**-9, mx.float16: 2.0**-12}
"""In float32 that of sums over the vocabulary, in which MLX's order is not numpy's."""


def as_float(array: mx.array) -> NDArray[np.float64]:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def processed_of(model: Model, hidden: mx.array, t: float) -> NDArray[np.float64]:
    raw = as_float(model.raw_logits(hidden.squeeze(0)))
    return CAP * np.tanh(raw / CAP) / t


def exact_soft(
    model: Model, processed: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The whole product; 16 bits round the logits first, and the bias comes behind."""
    rounded = as_float(mx.array(processed.astype(np.float32)).astype(model.dtype))
    table = as_float(model.certain_embedding(mx.arange(processed.shape[1])))
    return plain_shares(rounded + np.nan_to_num(bias, nan=-np.inf, neginf=-np.inf)) @ table


def test_a_class_that_is_forbidden_leaves_no_trace_in_any_dtype(small: Model) -> None:
    """One id allowed a row, the least likely: its embedding and no NaN, gathered or not."""
    raw = mx.random.normal((3, UNSURE_IDS), key=mx.random.key(1)).astype(small.dtype) * 20
    least = mx.argmin(raw, axis=-1)
    classes = mx.array(np.arange(UNSURE_IDS, dtype=np.int32))
    of_class = mx.where(mx.arange(UNSURE_IDS) == least[:, None], 0.0, -mx.inf)
    logits = Logits(raw, CAP, 0.5, ClassBias(of_class, classes))
    again = Logits.joined([logits.of_rows(mx.array([2])), logits.of_rows(mx.array([0, 1]))])
    order = [2, 0, 1]
    found = [small.soft_embedding(again.processed(), again.added())]
    if small.gathers:
        soft, tail, tier = small.gathered_embedding(again.processed(), again.added())
        assert as_float(tail).tolist() == [0, 0, 0]
        assert np.array(tier).tolist() == [0, 0, 0]
        found.append(soft)
    expected = as_float(small.certain_embedding(least[mx.array(order)]))
    for soft in found:
        assert_close(as_float(soft), expected, 1e-6, "soft")


# --- what the form does to a canvas


def test_a_form_that_the_model_keeps_anyway_changes_nothing() -> None:
    """Equal frames, for a network that is sure of digits and that they end."""
    script = [*id_of("31415926"), END, PAD, PAD, PAD]

    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        first = len(prefix) - len(PROMPT)
        return wanting(script[first : first + 6])

    runs = []
    for constraint in (None, held_to("[0-9]+", 12)):
        model = CertainModel(tiny_config(stop_ids=[END]), network)
        settings = Settings(max_tokens=12, seed=1)
        runs.append(list(denoise(model, PROMPT, settings, constraint=constraint)))
    free, held = runs
    assert [f.tokens.tolist() for f in free] == [f.tokens.tolist() for f in held]
    assert [f.accepted.tolist() for f in free] == [f.accepted.tolist() for f in held]
    assert {f.strain for f in free} == {None}
    assert max(f.strain for f in held) < 1e-6


def test_the_strain_is_minus_the_log_of_what_the_form_leaves() -> None:
    """Six positions sure of `a` by 25 logits, of which a form wants three to be `b`."""
    model = CertainModel(tiny_config(stop_ids=[END]), lambda *_: wanting(id_of("aaaaaa")))
    settings = Settings(seed=1, max_tokens=6, max_denoising_steps=1)
    first, last = denoise(model, PROMPT, settings, constraint=held_to("abab", 6))
    certain = CAP * np.tanh(25 / CAP) / 0.8
    per_position = np.log(np.exp(certain) + 39)  # what one of the 39 others costs
    expected = 2 * (per_position - certain) + 3 * per_position
    expected += per_position - np.log(2)  # END, then END or PAD
    assert first.strain == pytest.approx(expected, rel=1e-6)
    assert last.strain == first.strain
    assert text_of(last.tokens.tolist()) == "abab"


def test_a_canvas_ends_with_the_likeliest_way_and_the_frame_before_shows_the_argmax() -> None:
    """`cat` is the likeliest of three words, and shares less with the others than they do."""
    model = FakeModel(tiny_config(stop_ids=[END]), lambda *_: np.zeros((6, H), np.float32))
    wanted = np.full((6, 40), -20.0, np.float32)
    for word in ("cat", "fog", "fit"):
        wanted[range(3), id_of(word)] = 0.0
    wanted[1, id_of("a")] = np.log(4 / 3)
    wanted[3:, END] = 5.0
    model.raw_logits = lambda hidden: mx.array(wanted)  # type: ignore[method-assign]
    settings = Settings(seed=1, max_tokens=6, max_denoising_steps=1, t_min=0.999999, t_max=1.0)
    first, last = denoise(model, PROMPT, settings, constraint=held_to("cat|fog|fit", 6))
    assert text_of(first.tokens.tolist()) == "fat"
    assert text_of(last.tokens.tolist()) == "cat"
    certain = -0.6 * np.log(0.6) - 0.4 * np.log(0.4)
    assert first.entropies[0] == pytest.approx(certain, abs=1e-3)


def test_behind_the_budget_a_canvas_holds_fillers_only() -> None:
    model = lively_model(stop_ids=[END])
    frames = list(denoise(model, PROMPT, UNSURE, constraint=held_to("[a-z]{19}", 20)))
    last = [frame.tokens.tolist() for frame in steps_of(frames) if frame.canvas == 3]
    assert all(set(tokens[2:]) <= {END, PAD} for tokens in last)
    assert all(tokens[1] == END for tokens in last)
    assert len(answer(frames)) == 20


@pytest.mark.parametrize("pattern", ["[a-z]{0,9}x", "(ab){2,4}|é{3}", "0|1"])
def test_an_answer_ends_in_time_whatever_the_budget(pattern: str) -> None:
    shortest = int(form_of(40, pattern).distance[0])
    for left in {shortest, shortest + 1, max(shortest, 6), 7, 13}:
        model, settings = lively_model(stop_ids=[END]), replace(UNSURE, max_tokens=left, seed=left)
        constraint = held_to(pattern, left)
        frames = list(denoise(model, PROMPT, settings, constraint=constraint))
        assert re.fullmatch(pattern, text_of(answer(frames))), left
        assert frames[-1].finish_reason == "stop"
        assert len(answer(frames)) <= left
        assert constraint.ended


def test_a_character_may_be_cut_by_the_end_of_a_canvas() -> None:
    frames = list(
        denoise(
            lively_model(stop_ids=[END], canvas=5), PROMPT, UNSURE, constraint=held_to("é{6}", 20)
        )
    )
    parts = [frame.tokens.tolist() for frame in frames if frame.committed]
    assert parts[0][-1] == id_of("é")[0]
    assert parts[1][0] == id_of("é")[1]
    assert text_of(answer(frames)) == "éééééé"


def test_the_next_canvas_reads_what_was_committed() -> None:
    model = lively_model(stop_ids=[END])
    frames = list(denoise(model, PROMPT, UNSURE, constraint=held_to("[a-z]{14}", 20)))
    assert model.asked("encode") == [PROMPT, answer(frames)[:6], answer(frames)[6:12]]


def test_renoise_is_of_the_whole_vocabulary_as_it_was_trained() -> None:
    """Where nothing but the surest row is accepted, the canvas is full of what no form allows."""
    model = lively_model(stop_ids=[END])
    settings = Settings(seed=2, max_tokens=6, entropy_bound=1e-6, stability_threshold=99)
    list(denoise(model, PROMPT, settings, constraint=held_to("[0-9]{5}", 6)))
    ids = np.concatenate([ids for ids, _ in model.asked("decode")])
    assert len(set(ids.tolist())) == 40


def test_the_soft_embedding_is_of_what_the_form_leaves() -> None:
    model = lively_model(stop_ids=[END])
    list(denoise(model, PROMPT, UNSURE, constraint=held_to("7{5}", 20)))
    softs = [soft for _, soft in model.asked("decode") if soft is not None]
    assert_close(softs[0][:5], np.tile(model.table[7] * H**0.5, (5, 1)), 1e-5, "soft")


def test_draws_are_of_what_the_form_leaves() -> None:
    """512 positions, 8 steps, all of them accepted: chi-square of the ids drawn, 99.9% quantile."""
    model, C = lively_model(stop_ids=[END], canvas=512, context=8192), 512
    hidden = np.random.default_rng(3).normal(size=(C, H)).astype(np.float32)
    model.network = lambda *_: 0.4 * hidden
    settings = Settings(
        seed=1, max_tokens=C, max_denoising_steps=8, entropy_bound=1e9, t_min=0.799999, t_max=0.8
    )
    form = "([a-f]{2}|[g-k]x|[0-9])*"
    list(denoise(model, PROMPT, settings, constraint=held_to(form, C)))
    drawn = np.stack([ids for ids, _ in model.asked("decode")[1:]])
    logits = 0.4 * hidden.astype(float) @ model.table.T
    held = PlainHeld(CAP * np.tanh(logits / CAP) / 0.8, held_to(form, C))
    expected = len(drawn) * plain_shares(held.biased).sum(axis=0)
    counts = np.bincount(drawn.ravel(), minlength=40)
    assert counts[expected == 0].sum() == 0
    likely = expected > 5
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert likely.sum() > 20
    assert chi_square < 60  # 99.9% of 30 degrees of freedom: 59.7


def test_a_prompt_with_images_is_answered_in_a_form() -> None:
    model = lively_model(stop_ids=[END], image_id=20)
    images = [random_pixels(2, 1, 1)]
    frames = list(
        denoise(model, [3, 20, 20, 4], UNSURE, images=images, constraint=held_to("[a-z]{7,9}", 20))
    )
    assert re.fullmatch("[a-z]{7,9}", text_of(answer(frames)))


# --- settled or not


A, B = [1, 2, 3, 4, 5, END], [1, 2, 3, 4, 6, END]


@pytest.mark.parametrize("form", [None, "[0-9]{5}"])
@pytest.mark.parametrize(("canvases", "settled"), [([A, A], True), ([A, B, A, B], False)])
def test_a_canvas_says_whether_it_settled(
    form: str | None, canvases: list[list[int]], settled: bool
) -> None:
    model = CertainModel(tiny_config(stop_ids=[END]), in_turn(*canvases))
    settings = Settings(seed=1, max_tokens=6, max_denoising_steps=4, stability_threshold=1)
    constraint = held_to(form, 6) if form else None
    *steps, last = denoise(model, PROMPT, settings, constraint=constraint)
    assert {step.settled for step in steps} == {None}
    assert last.settled is settled


def test_a_canvas_that_settles_at_its_last_step_settled() -> None:
    model = CertainModel(tiny_config(stop_ids=[END]), in_turn(A))
    settings = Settings(seed=1, max_tokens=6, max_denoising_steps=2, stability_threshold=1)
    *_, last = denoise(model, PROMPT, settings)
    assert (last.step, last.settled) == (1, True)


# --- what is refused, and what breaks off


def test_a_form_that_may_take_more_than_the_answer_is_refused_at_the_call() -> None:
    model = lively_model()
    with raises(ConstraintError, "7 tokens ... max_tokens is 6"):
        denoise(model, PROMPT, replace(UNSURE, max_tokens=6), constraint=held_to("[0-9]", 7))
    assert model.events == []


def test_a_form_of_another_vocabulary_is_refused_at_the_call() -> None:
    with raises(ConstraintError, "40 ids ... 41"):
        denoise(lively_model(vocab=41), PROMPT, UNSURE, constraint=held_to("[0-9]", 20))


@pytest.mark.parametrize("stop_ids", [[7], [END, 7], []])
def test_a_form_that_ends_otherwise_than_the_model_is_refused(stop_ids: list[int]) -> None:
    """Its text would be cut at an id of it, or its end would not be seen."""
    with raises(ConstraintError, f"stop ids are {stop_ids}"):
        model = lively_model(stop_ids=stop_ids)
        denoise(model, PROMPT, UNSURE, constraint=held_to("[0-9]+", 20))


def test_numbers_that_are_not_finite_are_found_before_the_host_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same error as without a form, and no automaton runs on NaN."""
    errors = []
    for constraint in (None, held_to("[0-9]+", 6)):
        model = CertainModel(tiny_config(stop_ids=[END]), in_turn(A))
        model.gap = float("nan")
        monkeypatch.setattr(Constraint, "bias", lambda *_: pytest.fail("was asked"))
        with pytest.raises(NumericsError) as error:
            list(denoise(model, PROMPT, Settings(max_tokens=6), constraint=constraint))
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert "canvas 0, step 0" in errors[0]


def test_one_number_that_is_not_finite_is_enough() -> None:
    model = lively_model(stop_ids=[END])
    model.table[7, 0] = np.nan
    with pytest.raises(NumericsError, match="canvas 0, step 0"):
        list(denoise(model, PROMPT, UNSURE, constraint=held_to("[a-z]+", 20)))


def test_an_answer_broken_off_in_the_host_pass_leaves_a_prefix_to_go_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = lively_model(stop_ids=[END])
    prefix, constraint = model.new_prefix(), held_to("[a-z]{14}", 20)
    bias, calls = Constraint.bias, iter(range(99))

    def interrupted(self: Constraint, log_mass: Any) -> Any:
        if next(calls) == 7:  # in the second canvas
            raise KeyboardInterrupt
        return bias(self, log_mass)

    monkeypatch.setattr(Constraint, "bias", interrupted)
    done: list[Frame] = []
    with pytest.raises(KeyboardInterrupt):
        done.extend(denoise(model, PROMPT, UNSURE, prefix=prefix, constraint=constraint))
    monkeypatch.setattr(Constraint, "bias", bias)
    assert prefix.tokens[:5] == PROMPT
    assert (constraint.left, len(prefix.tokens)) == (14, 11)
    written = prefix.tokens[5:]
    again = held_to("[a-z]{14}", 20)
    again.advance(written)
    more = denoise(
        model, prefix.tokens, replace(UNSURE, max_tokens=14), prefix=prefix, constraint=again
    )
    assert re.fullmatch("[a-z]{14}", text_of([*written, *answer(list(more))]))


@pytest.mark.parametrize("t", [1e-3, 1e-6])
def test_a_temperature_near_0_forbids_no_form(t: float) -> None:
    """Bug: a share below e^-745 is 0 in float64, and then no text fitted the form."""
    settings = Settings(seed=3, max_tokens=12, max_denoising_steps=3, t_min=t, t_max=10 * t)
    constraint = held_to("[0-9]{5}", 12)
    frames = list(denoise(lively_model(stop_ids=[END]), PROMPT, settings, constraint=constraint))
    assert re.fullmatch("[0-9]{5}", text_of(answer(frames)))
    assert all(frame.strain > 600 for frame in frames if frame.canvas == 0)
