"""Attention in blocks against a single call, equal to the bit, and the memory that it takes.

Axes: L queries, K keys, D head dimension.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import DTYPES, Sizes, write_checkpoint
from held import peak_of

import mlx_diffgemma as dg
from mlx_diffgemma.model import scores
from mlx_diffgemma.model.attention import ALL, CAUSAL, Visibility, attend
from mlx_diffgemma.model.scores import attention_bytes

HEADS, KV_HEADS, D = 4, 2, 16
IMAGES = Visibility(True, None, (range(3, 150), range(160, 250)))
KINDS = {"all": ALL, "causal": CAUSAL, "window": Visibility(True, 7), "wide": Visibility(True, 40)}
SIZES = Sizes("sfsf", sliding_window=9, canvas_length=16, global_head_dim=32)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the most scores that may exist at once."""
    return lambda most: monkeypatch.setattr(scores, "MOST_SCORES", most)


def inputs(queries: int, keys: int, dtype: mx.Dtype = mx.float32) -> list[mx.array]:
    """Queries, keys and values, evaluated."""
    random = np.random.default_rng(queries + keys)
    shapes = [(1, HEADS, queries, D), *2 * [(1, KV_HEADS, keys, D)]]
    made = [mx.array(random.normal(0, 0.6, shape)).astype(dtype) for shape in shapes]
    mx.eval(made)
    return made


def dense_mask(queries: int, keys: int, visible: Visibility) -> np.ndarray:
    """[queries, keys], from the definition."""
    positions = np.arange(keys)
    own = positions[-queries:, None]
    mask = np.ones((queries, keys), bool)
    if visible.causal:
        mask &= positions <= own
    if visible.window is not None:
        mask &= positions > own - visible.window
    image = np.full(keys, -1)
    for number, run in enumerate(visible.runs):
        image[keys - queries :][run.start : run.stop] = number
    return mask | ((image == image[-queries:, None]) & (image >= 0))


def whole(q: mx.array, k: mx.array, v: mx.array, visible: Visibility) -> mx.array:
    """One call, with the mask from its definition."""
    mask = dense_mask(q.shape[2], k.shape[2], visible)
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


# --- images


def random_runs(random: np.random.Generator, length: int) -> tuple[range, ...]:
    """Runs among so many queries: none or several, of one position or all, with gaps or without."""
    runs: list[range] = []
    at = int(random.integers(0, length)) if random.integers(4) else 0
    while at < length and len(runs) < 6:
        stop = min(length, at + int(random.choice([1, 2, 5, 17, 60])))
        runs.append(range(at, stop))
        at = stop + int(random.choice([0, 1, 3, 20]))
    return tuple(runs) if random.integers(8) else ()


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_what_a_dense_mask_says(
    monkeypatch: pytest.MonkeyPatch, bound: Callable[[int], None], seed: int
) -> None:
    """Fifteen cases a seed: queries, keys before them, window, runs and the bound, all random.

    A cache hands out no more keys than a window reaches back to; no more scores than the bound
    exist at once, but for a single query of a single head.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    calls = Calls(monkeypatch)
    for _ in range(15):
        queries, before = int(random.integers(1, 90)), int(random.choice([0, 1, 30, 200]))
        window = [None, 1, 2, 7, 30, 150][random.integers(6)]
        before = before if window is None else min(before, window - 1)
        visible = Visibility(True, window, random_runs(random, queries))
        arrays = inputs(queries, queries + before)
        want = whole(*arrays, visible)
        most = int(random.choice([1, 300, 2000, 9000, 10**6]))
        bound(most)
        calls.shapes.clear()
        got = attend(*arrays, visible)
        case = (queries, before, visible, most)
        assert mx.array_equal(got, want), case
        scores_at_once = max(heads * rows * keys for heads, rows, keys in calls.shapes)
        one_query = {(heads, rows) for heads, rows, _ in calls.shapes} == {(1, 1)}
        assert scores_at_once <= most or one_query, (case, calls.shapes)


@pytest.mark.parametrize("seed", range(10))
def test_queries_of_one_mac_attend_as_those_of_all_do(
    monkeypatch: pytest.MonkeyPatch, bound: Callable[[int], None], seed: int
) -> None:
    """Ten cases a seed, as above; the queries are divided among three, evenly or not."""
    random = np.random.Generator(np.random.PCG64(seed))
    calls = Calls(monkeypatch)
    for _ in range(10):
        queries, behind = int(random.integers(3, 90)), int(random.choice([0, 30, 200]))
        visible = Visibility(True, [None, 7, 300][random.integers(3)], random_runs(random, queries))
        q, k, v = inputs(queries, queries + behind)
        want = whole(q, k, v, visible)
        most = int(random.choice([300, 9000, 10**6]))
        bound(most)
        calls.shapes.clear()
        ends = [
            0,
            *sorted(random.choice(np.arange(1, queries), 2, replace=False).tolist()),
            queries,
        ]
        for first, stop in pairwise(ends):
            got = attend(q[:, :, first:stop], k, v, visible, first=first, behind=behind)
            case = (queries, behind, visible, most, first, stop)
            assert mx.array_equal(got, want[:, :, first:stop]), case
        scores_at_once = max(heads * rows * keys for heads, rows, keys in calls.shapes)
        one_query = {(heads, rows) for heads, rows, _ in calls.shapes} == {(1, 1)}
        assert scores_at_once <= most or one_query, (case, calls.shapes)


@pytest.mark.parametrize("window", [None, 7, 500])
def test_keys_are_those_that_some_query_sees(window: int | None) -> None:
    """All of them, and with a window no other."""
    random = np.random.Generator(np.random.PCG64(3))
    for _ in range(100):
        queries, before = int(random.integers(1, 90)), int(random.integers(0, 200))
        visible = Visibility(True, window, random_runs(random, queries))
        first = int(random.integers(0, queries))
        block = range(first, int(random.integers(first + 1, queries + 1)))
        count = queries + before
        seen = np.flatnonzero(dense_mask(queries, count, visible)[block.start : block.stop].any(0))
        keys = visible.keys(block, before, count)
        if window is None:
            assert set(seen) <= set(keys) <= set(range(count))
        else:
            assert keys == range(seen[0], seen[-1] + 1)
        mask = visible.mask(block, keys, before)
        dense = dense_mask(queries, count, visible)[
            block.start : block.stop, keys.start : keys.stop
        ]
        if isinstance(mask, str):
            mask = mx.array(np.tri(len(block), len(keys), len(keys) - len(block), bool))
        assert mask is not None
        assert np.array_equal(np.array(mask), dense)


def test_a_run_longer_than_the_window_sees_all_of_itself_and_no_more_before_it() -> None:
    visible = Visibility(True, 4, (range(3, 13),))
    mask = np.array(visible.mask(range(20), range(25), 5))
    assert mask[3, 8:18].all()
    assert mask[12, 8:18].all()
    assert mask[3].sum() == 10 + 3  # the window holds three positions before its own
    assert mask[12].sum() == 10
    assert np.flatnonzero(mask[13]).tolist() == [15, 16, 17, 18]


def test_masks_of_all_keys_are_not_kept(bound: Callable[[int], None]) -> None:
    """They would grow with the context, to 537 MB for a chunk of 2,048 and 262,144 keys."""
    bound(20_000)
    arrays, runs = inputs(64, 700), (range(5, 60),)
    full, sliding = Visibility(True, None, runs), Visibility(True, 9, runs)
    attend(*arrays, full)
    attend(*arrays, sliding)
    assert not full.masks
    assert sliding.masks
    kept = sum(mask.size for mask in sliding.masks.values())
    assert kept <= 64 * (64 + 55)


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


@pytest.mark.parametrize("kind", ["all", "causal", "images"])
def test_the_scores_of_one_block_exist_at_a_time(bound: Callable[[int], None], kind: str) -> None:
    """256 x 2,048 scores a head, 8.4 MB in all; beside them only queries and outputs."""
    arrays = inputs(256, 2048, mx.float32)
    most, rows = 2**16, 3 * arrays[0].nbytes
    visible = {**KINDS, "images": IMAGES}[kind]
    assert peak_of(lambda: attend(*arrays, visible)) >= 4 * HEADS * 256 * 2048
    bound(most)
    assert peak_of(lambda: attend(*arrays, visible)) <= 2 * 4 * most + rows


def prefill_and_step(
    folder: Path, positions: int, chunk: int
) -> tuple[list[int], int, list[mx.array]]:
    """Peaks of a prefill, beyond the keys and values it leaves, and of a decoder pass; the plan;
    keys and values."""
    model = dg.load_model(folder, dtype=mx.float32)
    ids = np.random.default_rng(3).integers(0, SIZES.vocab_size, positions + 16).tolist()
    prefix = model.new_prefix()
    prefix.reserve(positions + 16)
    first = peak_of(lambda: model.encode(ids[:positions], prefix, chunk=chunk).keys[0])
    first -= sum(array.nbytes for array in prefix.arrays())
    second = peak_of(lambda: model.decode(mx.array(ids[positions:]), prefix))
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
