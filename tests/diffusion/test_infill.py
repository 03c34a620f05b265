"""The loop of a template against a plain one, and each promise about what is pinned.

The plain loop knows no gathers, caches or sheets: it decodes the whole canvas, looks at its free
positions one by one in float64, and puts the pinned tokens back by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import chain, pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from facts import raises
from fake_model import CAP, CertainModel, FakeModel, Floats, H, tiny_config, wanting
from numpy.typing import NDArray
from plain import lively_model, plain_accepted, plain_drawn, plain_soft

from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.diffusion.infill import fill, needed_positions
from mlx_diffgemma.diffusion.pinned import TEXT, FillFrame
from mlx_diffgemma.diffusion.template import TokenTemplate
from mlx_diffgemma.errors import NumericsError, PromptError
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings

PROMPT = [3, 1, 4, 1, 5]
END, PAD, FILLER = 30, 31, 32  # of a vocabulary of 40


def form(*parts: Sequence[int] | int, fillers: Sequence[int] = (FILLER,)) -> TokenTemplate:
    """A form of texts (lists of ids) and holes (their lengths) in turn, beginning with a text."""
    texts, lengths = parts[::2], parts[1::2]
    return TokenTemplate(
        tuple(tuple(text) for text in texts if not isinstance(text, int)),
        tuple(length for length in lengths if isinstance(length, int)),
        (END,),
        PAD,
        frozenset(fillers),
    )


ONE_CANVAS = form([7, 8], 2, [9], 1, [])  # of 8: two texts, two holes, END, PAD
FEW = Settings(max_denoising_steps=5, entropy_bound=2.0)


def committed(frames: Sequence[FillFrame]) -> list[int]:
    return [token for frame in frames if frame.committed for token in frame.tokens.tolist()]


def steps_of(frames: Sequence[FillFrame]) -> list[FillFrame]:
    return [frame for frame in frames if not frame.committed]


# --- nothing pinned


@pytest.mark.parametrize("steps", [1, 4, 12])
@pytest.mark.parametrize("confidence", [0.005, 0.5])
def test_with_nothing_pinned_it_is_the_loop_of_an_answer(steps: int, confidence: float) -> None:
    settings = Settings(
        max_denoising_steps=steps, entropy_bound=2.0, confidence_threshold=confidence
    )
    bare = TokenTemplate(((), ()), (6,), (), PAD, frozenset())
    filled = list(fill(lively_model(), PROMPT, bare, settings, CounterNoise(3)))
    answer = list(denoise(lively_model(), PROMPT, replace(settings, max_tokens=6), CounterNoise(3)))
    assert len(filled) == len(answer)
    for got, want in zip(filled, answer, strict=True):
        assert not got.pinned.any()
        assert got.mean_entropy == want.mean_entropy
        for name in {f.name for f in fields(Frame)} - {"seconds", "encode_seconds"}:
            if name != "finish_reason":
                assert np.array_equal(getattr(got, name), getattr(want, name)), name


# --- the plain loop


def plain_fill(
    model: FakeModel, given: Sequence[int | None], settings: Settings, noise: CounterNoise
) -> Iterator[dict[str, Any]]:
    """One canvas; `given` holds a token or None a position."""
    sampler = settings.resolved(model.config, 0).sampler
    C, V = model.config.canvas_length, model.config.text.vocab_size
    free = [place for place, token in enumerate(given) if token is None]
    allowed = [token for token in range(V) if token not in given]

    def with_pins(values: dict[int, int]) -> list[int]:
        return [values[i] if token is None else token for i, token in enumerate(given)]

    def fresh(ids: mx.array) -> dict[int, int]:
        return {place: allowed[int(ids[place])] for place in free}

    now = with_pins(fresh(noise.canvas(0, C, len(allowed))))
    soft: Floats | None = None
    earlier: list[list[int]] = []
    for step in range(sampler.max_denoising_steps):
        n = sampler.max_denoising_steps - step
        share = n / sampler.max_denoising_steps
        t = sampler.t_min + (sampler.t_max - sampler.t_min) * share
        hidden = model.network(PROMPT, np.array(now), soft).astype(np.float64)
        processed = CAP * np.tanh(hidden @ model.table.T / CAP) / t
        shares = np.exp(processed - processed.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        entropies = -(shares * np.log(shares)).sum(axis=1)[free]
        best = with_pins({place: int(processed[place].argmax()) for place in free})
        accepted = plain_accepted(entropies.tolist(), sampler.entropy_bound)
        yield {
            "tokens": best,
            "accepted": dict(zip(free, accepted, strict=True)),
            "entropies": dict(zip(free, entropies.tolist(), strict=True)),
            "mean": entropies.mean(),
        }
        uniforms = np.array(noise.uniforms(0, step, C))[:, 1]
        drawn = {place: plain_drawn(shares[place], uniforms[place]) for place in free}
        other = fresh(noise.renoise(0, step, C, len(allowed)))
        pairs = zip(free, accepted, strict=True)
        now = with_pins({place: (drawn if kept else other)[place] for place, kept in pairs})
        soft = plain_soft(model, processed)
        for place, token in enumerate(given):
            if token is not None:
                soft[place] = model.table[token] * H**0.5
        same = sampler.stability_threshold
        stable = len(earlier) >= same and all(e == best for e in earlier[len(earlier) - same :])
        if stable and entropies.mean() < sampler.confidence_threshold:
            return
        earlier.append(best)


@pytest.mark.parametrize("bound", [1e-6, 0.5, 2.0, 1e6])
@pytest.mark.parametrize("steps", [1, 4, 12])
@pytest.mark.parametrize("confidence", [0.005, 0.5])
def test_a_canvas_is_the_plain_loops(bound: float, steps: int, confidence: float) -> None:
    settings = Settings(
        max_denoising_steps=steps, entropy_bound=bound, confidence_threshold=confidence
    )
    noise = CounterNoise(int(1000 * bound) + steps)
    frames = list(fill(lively_model(canvas=8), PROMPT, ONE_CANVAS, settings, noise))
    given = [7, 8, None, None, 9, None, END, PAD]
    expected = list(plain_fill(lively_model(canvas=8), given, settings, noise))
    assert len(frames) == len(expected) + 1
    for got, want in zip(frames, expected, strict=False):
        assert got.tokens.tolist() == want["tokens"], got.step
        assert got.pinned.tolist() == [token is not None for token in given]
        for place, token in enumerate(given):
            assert got.accepted[place] == want["accepted"].get(place, True)
            if token is not None:
                assert got.entropies[place] == 0.0
        entropies = np.array(list(want["entropies"].values()))
        assert_close(got.entropies[~got.pinned], entropies, 2e-5, f"entropies, step {got.step}")
        assert_close(np.array(got.mean_entropy), want["mean"], 2e-5, f"mean, step {got.step}")
    last = expected[-1]["tokens"][:6]
    assert frames[-1].tokens.tolist() == [token for token in last if token != FILLER]


# --- what is pinned


def test_every_canvas_the_network_sees_holds_the_pinned_tokens() -> None:
    model = lively_model(canvas=8)
    list(fill(model, PROMPT, ONE_CANVAS, FEW, CounterNoise(3)))
    decodes = model.asked("decode")
    assert len(decodes) == 5
    for ids, _ in decodes:
        assert ids[[0, 1, 4, 6, 7]].tolist() == [7, 8, 9, END, PAD]
    assert len({tuple(ids.tolist()) for ids, _ in decodes}) > 1


def test_the_soft_embedding_of_a_pinned_token_is_its_own() -> None:
    model = lively_model(canvas=8)
    list(fill(model, PROMPT, ONE_CANVAS, FEW, CounterNoise(3)))
    (_, first), *later = model.asked("decode")
    assert first is None
    for _, soft in later:
        for place, token in ((0, 7), (1, 8), (4, 9), (6, END), (7, PAD)):
            assert_close(soft[place], model.table[token] * H**0.5, 1e-6, f"position {place}")


def test_no_logits_are_made_for_what_is_pinned() -> None:
    model = lively_model(canvas=8)
    list(fill(model, PROMPT, ONE_CANVAS, FEW, CounterNoise(3)))
    assert set(model.asked("logits")) == {3}
    assert set(model.asked("mixed_embedding")) == {3}


def test_16_bits_gather_for_free_positions_only() -> None:
    model = lively_model(canvas=8)
    model.dtype, model.gathers = mx.bfloat16, True
    frames = list(fill(model, PROMPT, ONE_CANVAS, FEW, CounterNoise(3)))
    assert set(model.asked("gathered_embedding")) == {3}
    for frame, (_, soft) in zip(frames, model.asked("decode")[1:], strict=False):
        for place in (2, 3, 5):
            assert (soft[place] == 7.0).all() == (frame.tokens[place] % 2 == 0)
        assert not (soft[[0, 1, 4, 6, 7]] == 7.0).all(axis=1).any()


def test_noise_repeats_nothing_that_is_pinned() -> None:
    model = CertainModel(tiny_config(vocab=40, canvas=30), lambda *_: wanting([1] * 30))
    model.gap = 0.0  # nothing is certain: all but one position are renoised at every step
    text = list(range(2, 20))
    list(fill(model, PROMPT, form(text, 8, []), Settings(max_denoising_steps=30)))
    seen = np.array([ids[18:26] for ids, _ in model.asked("decode")])
    counts = np.bincount(seen[0].tolist() + seen[1:].ravel().tolist(), minlength=40)
    drawn = len(seen) - 1  # the one that was accepted may be anything
    assert counts[[*text, END, PAD]].sum() <= drawn
    assert (counts[[0, 1, *range(20, 30), *range(32, 40)]] > 0).all()
    assert not set(seen[0].tolist()) & {*text, END, PAD}


def test_where_every_id_is_pinned_noise_may_be_any() -> None:
    model = CertainModel(tiny_config(vocab=5, canvas=8), lambda *_: wanting([1] * 8))
    everything = TokenTemplate(((0, 1, 2, 3, 4), ()), (2,), (4,), 4, frozenset())
    assert committed(list(fill(model, PROMPT[:4], everything, FEW, CounterNoise(3)))) == [
        0,
        1,
        2,
        3,
        4,
        1,
        1,
    ]


def test_pinned_tokens_take_nothing_of_the_entropy_bound_and_do_not_count_in_the_mean() -> None:
    """Two free positions of equal entropy under a bound that holds just one of them."""
    model = CertainModel(tiny_config(canvas=8), lambda *_: wanting([1] * 8))
    model.gap = 3.0
    step = next(iter(fill(model, PROMPT, form([7, 8, 9, 10, 11], 2, []), Settings())))
    entropy = float(step.entropies[5])
    assert entropy > 1.0
    assert step.mean_entropy == pytest.approx(entropy)
    for bound, both in ((0.99 * entropy, False), (1.01 * entropy, True)):
        settings = Settings(entropy_bound=bound)
        step = next(iter(fill(model, PROMPT, form([7, 8, 9, 10, 11], 2, []), settings)))
        assert step.accepted.tolist() == [True] * 6 + [both, True]


def test_numbers_that_are_not_finite_are_found_in_a_template_too() -> None:
    model = CertainModel(tiny_config(canvas=8), lambda *_: wanting([1] * 8))
    model.gap = float("nan")
    with pytest.raises(NumericsError, match="canvas 0, step 0"):
        list(fill(model, PROMPT, ONE_CANVAS, FEW, CounterNoise(3)))


# --- several canvases


def reading(model: FakeModel) -> None:
    """Makes the model write the ids of their places, counted from the template's beginning."""

    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        return wanting(10 + (len(prefix) - len(PROMPT) + np.arange(canvas.size)) % 15)

    model.network = network


LONG = form([1] * 5, 3, [2] * 9, 12, [3] * 20, 2, [4] * 11, 1, [5, 6])  # 65 positions


def test_a_template_longer_than_a_canvas_is_filled_canvas_by_canvas() -> None:
    model = CertainModel(tiny_config(canvas=8), lambda *_: np.zeros(0, np.float32))
    reading(model)
    frames = list(fill(model, PROMPT, LONG, FEW, CounterNoise(3)))
    wanted = [*[1] * 5, *[-1] * 3, *[2] * 9, *[-1] * 12, *[3] * 20, *[-1] * 2, *[4] * 11, -1, 5, 6]
    whole = [10 + i % 15 if token == -1 else token for i, token in enumerate(wanted)]
    assert committed(frames) == whole
    owners = [hole for frame in frames if frame.committed for hole in frame.holes.tolist()]
    assert [hole == TEXT for hole in owners] == [token != -1 for token in wanted]
    assert [owners.count(hole) for hole in range(4)] == [3, 12, 2, 1]
    assert frames[-1].finish_reason == "stop"
    assert {frame.finish_reason for frame in frames[:-1]} == {None}


def test_what_is_settled_is_encoded_once_and_in_order() -> None:
    model = CertainModel(tiny_config(canvas=8), lambda *_: np.zeros(0, np.float32))
    reading(model)
    frames = list(fill(model, PROMPT, LONG, FEW, CounterNoise(3)))
    encoded = list(chain.from_iterable(model.asked("encode")))
    assert encoded == [*PROMPT, *committed(frames)][: len(encoded)]
    assert len(encoded) == len(PROMPT) + 65 + 1 - 8  # the last canvas is full, END and all


def test_canvases_have_noise_of_their_own() -> None:
    model = lively_model(canvas=8)
    list(fill(model, PROMPT, form([], 30, []), replace(FEW, seed=1)))
    begun = [ids.tolist() for ids, soft in model.asked("decode") if soft is None]
    assert len(begun) > 3
    assert len({tuple(ids[:4]) for ids in begun}) == len(begun)


def test_the_same_seed_gives_the_same_text_and_another_seed_another() -> None:
    texts = []
    for seed in (5, 5, 6):
        model = lively_model(canvas=8)
        texts.append(committed(list(fill(model, PROMPT, LONG, replace(FEW, seed=seed)))))
    assert texts[0] == texts[1] != texts[2]


def test_frames_count_canvases_and_steps() -> None:
    frames = list(fill(lively_model(canvas=8), PROMPT, LONG, FEW, CounterNoise(3)))
    for before, after in pairwise(frames):
        if before.committed:
            assert (after.canvas, after.step) == (before.canvas + 1, 0)
        else:
            assert (after.canvas, after.step - before.step) == (before.canvas, not after.committed)


# --- fillers


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_filler_ends_a_hole_and_goes_with_all_behind_it(place: int) -> None:
    script = [10, 11, 12, 13]
    script[place] = FILLER
    model = CertainModel(tiny_config(canvas=8), lambda *_: wanting([1, *script, 1, 1, 1]))
    frames = list(fill(model, PROMPT, form([7], 4, [8]), FEW, CounterNoise(3)))
    assert committed(frames) == [7, *script[:place], 8]
    assert frames[-1].holes.tolist() == [TEXT, *[0] * place, TEXT]
    assert frames[-2].tokens.tolist() == [7, *script, 8, END, PAD]


def test_a_hole_of_several_canvases_may_end_in_any_of_them() -> None:
    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        done = len(prefix) - len(PROMPT)
        return wanting([FILLER if done + i == 10 else 10 for i in range(canvas.size)])

    model = CertainModel(tiny_config(canvas=8), network)
    frames = list(fill(model, PROMPT, form([7], 30, [8, 9]), FEW, CounterNoise(3)))
    assert committed(frames) == [7, *[10] * 9, 8, 9]


# --- what is refused


def test_what_does_not_fit_the_context_is_refused_at_the_call() -> None:
    model = lively_model(canvas=8, context=72)
    assert needed_positions(model.config, 6, LONG) == 6 + 65 + 1
    needs = "7 prompt tokens ... a template of 66 ... 73 positions ... 72"
    with raises(PromptError, needs, "prompt ... template ... gaps"):
        fill(model, [*PROMPT, 1, 1], LONG)
    assert model.events == []


def test_a_short_template_needs_a_whole_canvas_all_the_same() -> None:
    assert needed_positions(tiny_config(canvas=8, context=13), 5, form([1], 1, [])) == 13
    with raises(PromptError, "a template of 3 ... 13 positions ... 12"):
        needed_positions(tiny_config(canvas=8, context=12), 5, form([1], 1, []))


def test_no_canvas_reaches_behind_what_was_asked_for() -> None:
    model = lively_model(canvas=8, context=71)
    list(fill(model, PROMPT, LONG, FEW, CounterNoise(3)))
    assert len(list(chain.from_iterable(model.asked("encode")))) + 8 == 71


def test_an_empty_prompt_or_another_prefix_is_refused() -> None:
    model = lively_model(canvas=8)
    with pytest.raises(PromptError, match="the prompt is empty"):
        fill(model, [], ONE_CANVAS)
    prefix = model.encode([9, 9])
    with pytest.raises(PromptError, match="the prefix holds other tokens"):
        fill(model, PROMPT, ONE_CANVAS, prefix=prefix)
