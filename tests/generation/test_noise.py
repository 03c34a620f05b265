"""The counter-based noise: published vectors, exact numbers, and what they may depend on."""

import threading
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from facts import raises

from mlx_diffgemma.errors import SettingsError
from mlx_diffgemma.generation.noise import (
    STREAM_CANVAS,
    STREAM_DRAW,
    STREAM_RENOISE,
    STREAM_TOKENS,
    CounterNoise,
    Noise,
    checked_noise,
    philox,
)

Words = tuple[int, ...]
LARGE_SEED = 0x299F31D0A4093822


def philox4x32_10(counter: Words, key: Words) -> Words:
    """Philox4x32-10 as its paper writes it (Salmon et al., SC 2011, section 3), word by word."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def words(text: str) -> Words:
    return tuple(int(word, 16) for word in text.split())


# Random123 1.14, tests/kat_vectors: counter and key, result.
KNOWN_ANSWERS = {
    "00000000 00000000 00000000 00000000  00000000 00000000": "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ffffffff ffffffff ffffffff ffffffff  ffffffff ffffffff": "408f276d 41c83b0e a20bc7c6 6d5451fd",
    "243f6a88 85a308d3 13198a2e 03707344  a4093822 299f31d0": "d16cfe09 94fdcceb 5001e420 24126ea1",
}


@pytest.mark.parametrize(("given", "result"), KNOWN_ANSWERS.items())
def test_the_reference_here_gives_the_published_vectors(given: str, result: str) -> None:
    assert philox4x32_10(words(given)[:4], words(given)[4:]) == words(result)


def test_philox_gives_the_published_vector_at_counter_zero() -> None:
    zero = next(iter(KNOWN_ANSWERS.values()))
    assert philox(0, 1, 0, 0, 0)[0].tolist() == list(words(zero))


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, LARGE_SEED, 2**64 - 1])
@pytest.mark.parametrize("place", [(0, 0, 0), (47, 3, 2), (2**32 - 1, 2**32 - 1, 1)])
def test_philox_is_philox4x32_10_at_position_step_canvas_stream(
    seed: int, place: tuple[int, int, int]
) -> None:
    key = seed % 2**32, seed >> 32
    expected = [philox4x32_10((position, *place), key) for position in range(50)]
    step, canvas, stream = place
    assert philox(seed, 50, step, canvas, stream).tolist() == [list(w) for w in expected]


@pytest.mark.parametrize("seed", [7, LARGE_SEED])
def test_draws_are_the_first_two_words_at_their_place(seed: int) -> None:
    raw = philox(seed, 300, 5, 2, STREAM_DRAW)[:, :2].astype(np.float64)
    expected = (np.floor(raw / 2**9) + 0.5) * 2.0**-23  # every one exact in float32
    got = CounterNoise(seed).uniforms(canvas=2, step=5, length=300)
    assert got.dtype == mx.float32
    assert got.shape == (300, 2)
    assert np.array_equal(np.array(got, np.float64), expected)


@pytest.mark.parametrize("word", [0, 511, 512, 2**32 - 512, 2**32 - 1])
def test_uniforms_stay_inside_zero_and_one_at_extreme_words(
    word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = np.full((4, 4), word, np.uint32)
    monkeypatch.setattr("mlx_diffgemma.generation.noise.philox", lambda *_: constant)
    (value,) = np.unique(np.array(CounterNoise(0).uniforms(0, 0, 4)))
    assert 0 < value < 1
    assert float(value) == ((word >> 9) + 0.5) / 2**23


@pytest.mark.parametrize("vocab", [1, 2, 40, 128, 131, 262_144])
def test_ids_are_the_scaled_first_word_and_in_range(vocab: int) -> None:
    noise = CounterNoise(LARGE_SEED)
    for got, stream, step in (
        (noise.canvas(3, 500, vocab), STREAM_CANVAS, 0),
        (noise.renoise(3, 9, 500, vocab), STREAM_RENOISE, 9),
    ):
        raw = philox(LARGE_SEED, 500, step, 3, stream)[:, 0].tolist()
        assert got.dtype == mx.int32
        assert got.tolist() == [word * vocab >> 32 for word in raw]
        assert 0 <= got.min().item() <= got.max().item() < vocab


def test_the_largest_word_gives_the_largest_id(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = np.full((1, 4), 2**32 - 1, np.uint32)
    monkeypatch.setattr("mlx_diffgemma.generation.noise.philox", lambda *_: largest)
    assert CounterNoise(0).canvas(0, 1, 262_144).tolist() == [262_143]


def test_a_longer_canvas_begins_with_the_shorter_one() -> None:
    noise = CounterNoise(11)
    for short, long in (
        (noise.canvas(1, 8, 128), noise.canvas(1, 256, 128)),
        (noise.renoise(1, 4, 8, 128), noise.renoise(1, 4, 256, 128)),
        (noise.uniforms(1, 4, 8), noise.uniforms(1, 4, 256)),
    ):
        assert mx.array_equal(short, long[:8])


def test_the_vocabulary_does_not_move_the_underlying_words() -> None:
    small, large = CounterNoise(5).canvas(0, 200, 100), CounterNoise(5).canvas(0, 200, 100_000)
    assert mx.array_equal(small, large // 1000)


def test_streams_steps_canvases_and_seeds_differ() -> None:
    places = [
        (seed, step, canvas) for seed in (0, 1, 2**32) for step in (0, 1) for canvas in (0, 1)
    ]
    seen = {
        philox(seed, 4, step, canvas, stream).tobytes()
        for seed, step, canvas in places
        for stream in (STREAM_CANVAS, STREAM_RENOISE, STREAM_DRAW)
    }
    assert len(seen) == 3 * len(places)


def test_both_halves_of_a_64_bit_seed_count() -> None:
    low, high, both = (CounterNoise(s).canvas(0, 64, 1000) for s in (9, 9 << 32, (9 << 32) + 9))
    assert not mx.array_equal(low, high)
    assert not mx.array_equal(low, both)
    assert not mx.array_equal(high, both)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_of_more_than_64_bits_is_refused(seed: int) -> None:
    with raises(SettingsError, f"seed is {seed} ... from 0 to {2**64 - 1}"):
        CounterNoise(seed)


@pytest.mark.parametrize("seed", [1.5, 7.0, True, None, "7"])
def test_a_seed_that_is_no_whole_number_is_refused_where_it_is_given(seed: Any) -> None:
    """Bug: `CounterNoise(1.5)` failed at its first draw, in numpy's words."""
    with raises(SettingsError, f"seed is {seed!r}, expected a whole number from 0"):
        CounterNoise(seed)


def test_a_seed_may_be_one_of_numpys() -> None:
    assert type(CounterNoise(np.uint64(7)).seed) is int  # type: ignore[arg-type]


def test_noise_has_no_state() -> None:
    noise = CounterNoise(3)
    first = noise.uniforms(0, 0, 16)
    noise.canvas(0, 16, 50)
    noise.uniforms(0, 1, 16)
    assert mx.array_equal(noise.uniforms(0, 0, 16), first)


def test_ids_and_uniforms_are_uniform() -> None:
    """Means over 200,000 draws, within five standard errors of the uniform's."""
    noise, count = CounterNoise(2026), 200_000
    uniforms = np.array(noise.uniforms(0, 0, count), np.float64)
    ids = (np.array(noise.canvas(0, count, 1000), np.float64) + 0.5) / 1000
    error = 5 * (1 / 12 / count) ** 0.5
    means = [*uniforms.mean(axis=0), ids.mean()]
    assert np.abs(np.array(means) - 0.5).max() < error, f"means {means}, expected 0.5 ± {error:.5f}"
    between = np.corrcoef(uniforms.T)[0, 1]
    assert abs(between) < 5 * count**-0.5, f"the two uniforms correlate: {between:.5f}"


# --- somebody's own


class Own:
    """A Noise that gives what it is told."""

    def __init__(self, **given: Any) -> None:
        self.given = {
            "canvas": mx.zeros(4, mx.int32),
            "renoise": mx.ones(4, mx.int32),
            "uniforms": mx.full((4, 2), 0.5),
            **given,
        }

    def canvas(self, canvas: int, length: int, vocab: int) -> Any:
        return self.given["canvas"]

    def renoise(self, canvas: int, step: int, length: int, vocab: int) -> Any:
        return self.given["renoise"]

    def uniforms(self, canvas: int, step: int, length: int) -> Any:
        return self.given["uniforms"]


def made_of(name: str, noise: Noise) -> mx.array:
    """A canvas, renoise or uniforms of four positions."""
    if name == "canvas":
        return noise.canvas(0, 4, 9)
    return noise.renoise(0, 0, 4, 9) if name == "renoise" else noise.uniforms(0, 0, 4)


def test_the_products_own_noise_needs_no_check() -> None:
    assert isinstance(checked_noise(None, 3), CounterNoise)


@pytest.mark.parametrize("name", ["canvas", "renoise"])
def test_ids_of_any_width_become_int32(name: str) -> None:
    for given in (np.array([1, 2, 3, 4]), mx.array([[1, 2, 3, 4]], mx.uint8)):
        ids = made_of(name, checked_noise(Own(**{name: given}), 0))
        assert (ids.tolist(), ids.dtype) == ([1, 2, 3, 4], mx.int32)


def test_uniforms_of_numpy_become_float32() -> None:
    given = np.full((4, 2), 0.25)
    uniforms = made_of("uniforms", checked_noise(Own(uniforms=given), 0))
    assert (uniforms.tolist(), uniforms.dtype) == (given.tolist(), mx.float32)


@pytest.mark.parametrize(
    ("name", "given", "got"),
    [
        ("canvas", mx.zeros(4), "float32 [4] ... int32 [4]"),
        ("canvas", mx.zeros(5, mx.int32), "int32 [5] ... int32 [4]"),
        ("renoise", mx.zeros((2, 2), mx.int32), "int32 [2, 2] ... int32 [4]"),
        ("renoise", [1, 2, 3, 4], "a list ... int32 [4]"),
        ("uniforms", mx.zeros(4), "float32 [4] ... float32 [4, 2]"),
        ("uniforms", mx.zeros((4, 2), mx.bfloat16), "bfloat16 [4, 2] ... float32 [4, 2]"),
        ("uniforms", mx.zeros((4, 2), mx.int32), "int32 [4, 2] ... float32 [4, 2]"),
        ("uniforms", None, "a NoneType ... float32 [4, 2]"),
    ],
)
def test_noise_of_another_form_is_refused_as_it_comes(name: str, given: Any, got: str) -> None:
    with raises(SettingsError, f"the noise's {name} ... {got}"):
        made_of(name, checked_noise(Own(**{name: given}), 0))


def test_a_check_of_noise_evaluates_nothing() -> None:
    """Steps would wait for it. What a thread left pending cannot be evaluated in another."""
    pending: list[mx.array] = []
    thread = threading.Thread(target=lambda: pending.append(mx.ones(4, mx.int32) + 1))
    thread.start()
    thread.join()
    made_of("renoise", checked_noise(Own(renoise=pending[0]), 0))
    with pytest.raises(RuntimeError, match="Stream"):
        mx.eval(pending[0])


# --- tokens one by one


def test_tokens_have_a_stream_of_their_own_at_their_index() -> None:
    """Counter (index, 0, 0, 3): nothing but the seed and the place in the answer."""
    got = np.array(CounterNoise(LARGE_SEED).tokens(70_000, 5), np.float64)
    key = LARGE_SEED % 2**32, LARGE_SEED >> 32
    raw = [philox4x32_10((index, 0, 0, 3), key)[:2] for index in range(70_000, 70_005)]
    assert got.tolist() == [[((word >> 9) + 0.5) / 2**23 for word in pair] for pair in raw]


def test_tokens_made_many_at_a_time_are_those_made_one_by_one() -> None:
    noise = CounterNoise(31)
    together = noise.tokens(250, 20)
    assert mx.array_equal(together, mx.concatenate([noise.tokens(at, 1) for at in range(250, 270)]))
    assert mx.array_equal(noise.tokens(0, 300)[250:270], together)


def test_the_stream_of_tokens_meets_none_of_a_canvass() -> None:
    """Equal words would be equal counters: for one key Philox maps no two to the same words."""
    tokens = {row.tobytes() for row in philox(7, 512, 0, 0, STREAM_TOKENS)}
    assert len(tokens) == 512
    for stream in (STREAM_CANVAS, STREAM_RENOISE, STREAM_DRAW):
        for step, canvas in ((0, 0), (1, 0), (0, 3), (3, 0)):
            assert tokens.isdisjoint(row.tobytes() for row in philox(7, 512, step, canvas, stream))
