"""Attention in blocks against a single call, equal to the bit, and the memory that it takes.

Axes: L queries, K keys, D head dimension.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import DTYPES, Sizes, write_checkpoint

import mlx_diffgemma as dg
from mlx_diffgemma.model import scores
from mlx_diffgemma.model.attention import ALL, CAUSAL, Visibility, attend
from mlx_diffgemma.model.scores import attention_bytes

HEADS, KV_HEADS, D = 4, 2, 16
KINDS = {"all": ALL, "causal": CAUSAL, "window": Visibility(True, 7), "wide": Visibility(True, 40)}
SIZES = Sizes("sfsf", sliding_window=9, canvas_length=16, global_head_dim=32)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the most scores that may exist at once."""
    return lambda most: monkeypatch.setattr(scores, "MOST_SCORES", most)


def inputs(queries: int, keys: int, dtype: mx.Dtype) -> list[mx.array]:
    """Queries, keys and values, evaluated."""
    random = np.random.default_rng(queries + keys)
    shapes = [(1, HEADS, queries, D), *2 * [(1, KV_HEADS, keys, D)]]
    made = [mx.array(random.normal(0, 0.6, shape)).astype(dtype) for shape in shapes]
    mx.eval(made)
    return made


def whole(q: mx.array, k: mx.array, v: mx.array, visible: Visibility) -> mx.array:
    """One call, with the mask from its definition."""
    positions = np.arange(k.shape[2])
    own = positions[-q.shape[2] :, None]
    mask = np.ones((q.shape[2], k.shape[2]), bool)
    if visible.causal:
        mask &= positions <= own
    if visible.window is not None:
        mask &= positions > own - visible.window
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0, mask=mx.array(mask))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (33, 33), (64, 90), (70, 300)])
def test_blocks_equal_one_call_to_the_bit(
    bound: Callable[[int], None], queries: int, keys: int, kind: str, dtype: mx.Dtype
) -> None:
    arrays, visible = inputs(queries, keys, dtype), KINDS[kind]
    want = whole(*arrays, visible)
    for most in (1, 500, 2000, 20_000, 100_000):
        bound(most)
        assert mx.array_equal(attend(*arrays, visible), want), most


class Calls:
    """Stands for MLX's attention and notes the scores of each call; counts evaluations too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, int, int]] = []
        self.evaluations = 0
        self.attention, self.eval = mx.fast.scaled_dot_product_attention, mx.eval
        monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", self)
        monkeypatch.setattr(mx, "eval", self._eval)

    def __call__(self, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        self.shapes.append((q.shape[1], q.shape[2], k.shape[2]))
        return self.attention(q, k, v, **options)

    def _eval(self, *arrays: Any) -> None:
        self.evaluations += 1
        self.eval(*arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_is_one_call_that_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch, bound: Callable[[int], None], kind: str
) -> None:
    arrays = inputs(64, 90, mx.float32)
    bound(HEADS * 64 * 90)
    calls = Calls(monkeypatch)
    attend(*arrays, KINDS[kind])
    assert (calls.shapes, calls.evaluations) == ([(HEADS, 64, 90)], 0)


def test_a_causal_block_leaves_out_what_none_of_its_queries_sees(
    monkeypatch: pytest.MonkeyPatch, bound: Callable[[int], None]
) -> None:
    arrays = inputs(512, 768, mx.float32)
    bound(HEADS * 128 * 768)
    calls = Calls(monkeypatch)
    for kind in ("all", "causal", "wide"):
        attend(*arrays, KINDS[kind])
    assert calls.shapes[:4] == 4 * [(HEADS, 128, 768)]
    assert calls.shapes[4:8] == [(HEADS, 128, keys) for keys in (384, 576, 672, 768)]
    assert {keys - rows for _, rows, keys in calls.shapes[8:]} == {39}
    assert calls.evaluations == len(calls.shapes)


def test_many_keys_take_a_head_at_a_time(
    monkeypatch: pytest.MonkeyPatch, bound: Callable[[int], None]
) -> None:
    arrays = inputs(128, 1000, mx.float32)
    bound(HEADS * 100 * 1000)
    calls = Calls(monkeypatch)
    got = attend(*arrays, ALL)
    assert calls.shapes == HEADS * [(1, 128, 1000)]
    assert calls.evaluations == HEADS
    assert mx.array_equal(got, whole(*arrays, ALL))


def test_layers_of_a_pass_share_masks(bound: Callable[[int], None]) -> None:
    bound(1000)
    visible = Visibility(causal=True, window=7)
    arrays = inputs(64, 90, mx.float32)
    attend(*arrays, visible)
    before = dict(visible.masks)
    attend(*arrays, visible)
    assert before
    assert all(visible.masks[key] is mask for key, mask in before.items())


# --- in the network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("attention"), SIZES)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("chunk", [7, 48, 64, None])
def test_prefix_and_canvas_are_those_of_one_call(
    folder: Path, bound: Callable[[int], None], chunk: int | None, dtype: mx.Dtype
) -> None:
    model = dg.load_model(folder, dtype=dtype)
    random = np.random.default_rng(5)
    prompt = random.integers(0, SIZES.vocab_size, 130).tolist()
    canvas = mx.array(random.integers(0, SIZES.vocab_size, 16))

    def run() -> list[mx.array]:
        prefix = model.encode(prompt, chunk=chunk)
        hidden = model.decode(canvas, prefix)
        model.encode(prompt[:50], prefix, chunk=chunk)
        return [hidden, *prefix.keys, *prefix.values]

    want = run()
    for most in (300, 5000):
        bound(most)
        for got, expected in zip(run(), want, strict=True):
            assert mx.array_equal(got, expected)


# --- memory


def peak(run: Callable[[], mx.array]) -> int:
    """Bytes that exist at most during `run`, above those before it."""
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(run())
    mx.synchronize()
    return mx.get_peak_memory() - before


@pytest.mark.parametrize("kind", ["all", "causal"])
def test_the_scores_of_one_block_exist_at_a_time(bound: Callable[[int], None], kind: str) -> None:
    """256 x 2,048 scores a head, 8.4 MB in all; beside them only queries and outputs."""
    arrays = inputs(256, 2048, mx.float32)
    most, rows = 2**16, 3 * arrays[0].nbytes
    assert peak(lambda: attend(*arrays, KINDS[kind])) >= 4 * HEADS * 256 * 2048
    bound(most)
    assert peak(lambda: attend(*arrays, KINDS[kind])) <= 2 * 4 * most + rows


def prefill_and_step(
    folder: Path, positions: int, chunk: int
) -> tuple[list[int], int, list[mx.array]]:
    """Peaks of a prefill, beyond the keys and values it leaves, and of a decoder pass; the plan;
    keys and values."""
    model = dg.load_model(folder, dtype=mx.float32)
    ids = np.random.default_rng(3).integers(0, SIZES.vocab_size, positions + 16).tolist()
    prefix = model.new_prefix()
    prefix.reserve(positions + 16)
    first = peak(lambda: model.encode(ids[:positions], prefix, chunk=chunk).keys[0])
    first -= sum(array.nbytes for array in prefix.arrays())
    second = peak(lambda: model.decode(mx.array(ids[positions:]), prefix))
    plan = attention_bytes(model.config, positions + 16, chunk, 4)
    return [first, second], plan, [*prefix.keys, *prefix.values]


@pytest.mark.parametrize(
    ("positions", "chunk", "most"),
    [
        (640, 256, 2**16),
        pytest.param(8192, 2048, 2**22, marks=pytest.mark.slow),
        pytest.param(16_384, 2048, 2**22, marks=pytest.mark.slow),
    ],
)
def test_prefill_and_step_stay_under_the_plan(
    tmp_path: Path, bound: Callable[[int], None], positions: int, chunk: int, most: int
) -> None:
    """What a pass holds besides attention is small here: a hidden size of 16, two experts."""
    sizes = Sizes(
        "sff",
        hidden_size=16,
        head_dim=16,
        global_head_dim=32,
        num_experts=2,
        top_k_experts=1,
        sliding_window=128,
        canvas_length=16,
        max_position_embeddings=32_768,
    )
    folder = write_checkpoint(tmp_path, sizes)
    *_, want = prefill_and_step(folder, positions, chunk) if positions < 10_000 else (None,)
    bound(most)
    peaks, plan, got = prefill_and_step(folder, positions, chunk)
    assert max(peaks) <= plan, (peaks, plan)
    if want is not None:
        assert all(mx.array_equal(a, b) for a, b in zip(got, want, strict=True))
