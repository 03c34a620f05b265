"""The kernels at the sizes of the 26B model, and 200,000 draws."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from drawing import assert_chi_square
from gathering import GIVEN
from metal_sim import simulated
from numpy.typing import NDArray

from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.diffusion.sampler import SLICE, Logits
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.kernels.check import as_float64, deviation, row_error, unpacked_exactly, worst
from mlx_diffgemma.kernels.classes.checks import ClassCase
from mlx_diffgemma.kernels.classes.trial import some_bias, tolerances
from mlx_diffgemma.kernels.denoise.checks import SampleCase
from mlx_diffgemma.kernels.denoise.launch import Slices, commit_in_kernel, pick, stats
from mlx_diffgemma.kernels.denoise.trial import sample_in_kernels, spiked_rows
from mlx_diffgemma.kernels.experts.cases import DownCase, GateUpCase, Sizes, gelu_tanh
from mlx_diffgemma.kernels.soft_gather.checks import ClassGatherCase, GatherCase
from mlx_diffgemma.kernels.soft_gather.checks import Sizes as GatherSizes
from mlx_diffgemma.kernels.soft_gather.trial import tolerances as gather_tolerances
from mlx_diffgemma.model import experts
from mlx_diffgemma.model.soft_gather import HALF_ULP, KEPT

pytestmark = pytest.mark.slow

Floats = NDArray[np.float64]


# --- denoising, and soft embeddings


def test_a_canvas_of_256_rows_over_262144_tokens() -> None:
    """In bfloat16 and four chunks, as on a GPU: argmax, entropy, draw, acceptance, bytes."""
    chunks = [SampleCase.of((64, 262_144), mx.bfloat16, sampler, seed) for seed in range(4)]
    found: list[list[Any]] = []
    right: list[list[Any]] = []
    with simulated() as run:
        for case in chunks:
            seen = sample_in_kernels(case.logits, case.uniforms)
            found.append([np.array(array) for array in seen.arrays])
            right.append(list(case.exact()))
        best, entropy, drawn = (np.concatenate(part) for part in zip(*found, strict=True))
        fresh = CounterNoise(1).renoise(0, 0, 256, 262_144)
        ids = [mx.array(array) for array in (best, drawn)]
        inputs = (ids[0], mx.array(entropy), ids[1], fresh, ids[0])
        accepted, next_canvas, _ = commit_in_kernel(inputs, 3.0)
    want = [np.concatenate(part) for part in zip(*right, strict=True)]
    assert np.array_equal(best, want[0])
    assert_close(entropy, want[1], 5e-6, "entropy")  # of 11 nats: five units in the last place
    assert np.array_equal(drawn, want[2])
    ours = sampler.commit(*inputs, 3.0)
    assert 0 < sum(ours.accepted.tolist()) < 256
    assert accepted.tolist() == ours.accepted.tolist()
    assert next_canvas.tolist() == ours.next_canvas.tolist()

    logits = 256 * 262_144 * 2
    read_whole = sum(launch.input_bytes for launch in run.of("denoise_stats"))
    assert read_whole == logits + 4 * 8  # and the scalars
    # denoise_pick is given them all, and reads one slice a row: 2 MB.
    written = sum(launch.output_bytes for launch in run.launches)
    assert written == 256 * (64 * 20 + 2048 * 4 + 12 + 5) + 8
    assert written < logits / 50


# Ids of the classes of a list of tasks, the largest first; those of one id are the rest.
SHARES = (218_000, 12_700, 6_700, 4_000, 2_700, *[500] * 20, *[40] * 60, *[3] * 110)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
def test_a_form_over_262144_tokens(dtype: mx.Dtype) -> None:
    """64 rows whose classes are as large as a form's; records of five numbers a block."""
    own = np.full(262_144, -1)
    own[: sum(SHARES)] = np.repeat(np.arange(len(SHARES)), SHARES)
    rest = np.flatnonzero(own < 0)
    own[rest] = len(SHARES) + np.arange(rest.size) % 235
    own = np.random.default_rng(0).permutation(own).astype(np.int32)
    order = classes.class_order(own, int(own.max()) + 1)
    raw, uniforms = spiked_rows((64, 262_144), dtype)
    logits, bias = sampler.Logits(raw, 30.0, 0.6), some_bias(64, order)
    case = ClassCase(logits, order, bias, uniforms, classes)
    with simulated() as run:
        got = case.kernel()
    right = case.exact()
    *others, entropy, draws = tolerances(16)  # of the draws one: a uniform near an interval's end
    limits = (*others, replace(entropy, limit=5e-6), draws)
    found = [deviation(*each) for each in zip(got, right, limits, strict=True)]
    print(dtype, *found, sep="\n")
    assert all(each.allowed for each in found)
    blocks = order.block_class.size
    assert 2100 < blocks < 2700
    assert run.of("class_stats")[0].output_bytes == 64 * blocks * 20


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@pytest.mark.parametrize("bits", [0, 4, 8])
def test_soft_embeddings_at_real_widths(dtype: mx.Dtype, bits: int) -> None:
    """H 2816 over 40,003 tokens: within two roundings of float64."""
    with simulated():
        sizes = GatherSizes(24, 40_003, 2816, dtype, bits, 64, KEPT)
        case = GatherCase.of(sizes, GIVEN)
        soft, tail, tier = case.kernel()
    want = case.exact()
    size = np.abs(want[0]).max(axis=1, keepdims=True)
    got = np.array(soft.astype(mx.float32)) / np.where(size > 0, size, 1)
    assert_close(got, want[0] / np.where(size > 0, size, 1), 4 * HALF_ULP[dtype], "soft")
    assert_close(tail, want[1], 2e-6, "tail")
    assert np.array_equal(np.array(tier), want[2])
    assert set(want[2].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_soft_embeddings_of_a_form_at_real_widths(dtype: mx.Dtype) -> None:
    """H 2816 over 40,003 tokens in some 200 classes, an embedding of 4 bits."""
    with simulated():
        sizes = GatherSizes(24, 40_003, 2816, dtype, 4, 64, KEPT, 200)
        case = ClassGatherCase.of(sizes, GIVEN)
        got = case.kernel()
    right = case.exact()
    soft, *others = gather_tolerances(HALF_ULP[dtype])
    assert worst(got, right, (replace(soft, limit=4 * HALF_ULP[dtype]), *others)).allowed
    assert set(right[2].tolist()) == {0, 1, 2}


# --- experts

REAL = Sizes(L=16, E=4, K=3, H=2816, I=704, dtype=mx.float32)
PACKINGS = [(0, 0), (4, 32), (4, 64), (8, 64)]


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("case", [GateUpCase, DownCase])
def test_experts_at_real_widths_in_float32(
    case: type[GateUpCase | DownCase], bits: int, group: int
) -> None:
    """1e-5 of a row's largest value."""
    made = case(replace(REAL, bits=bits, group=group), experts)
    with simulated():
        (got,) = made.kernel()
    (want,) = made.exact()
    assert row_error(as_float64(got), want) <= 1e-5


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bfloat16", "float16"])
def test_experts_at_real_widths_in_16_bits(dtype: mx.Dtype, bits: int, group: int) -> None:
    """No worse than a dense product that sums in float32 and rounds to 16 bits.

    That product's weights are rounded to 16 bits as well, as unpacked ones are. Without packing
    both down products round once: they differ where a sum lies next to a tie.
    """
    sizes = replace(REAL, dtype=dtype, bits=bits, group=group)
    first, second = GateUpCase(sizes, experts), DownCase(sizes, experts)
    with simulated():
        (inner,), (outputs,) = first.kernel(), second.kernel()
    own = first.plan.rows // first.plan.top_k
    gate, up = np.split(dense_product(first.x[own], first.weight, first, dtype), 2, axis=1)
    activated = rounded(rounded(gelu_tanh(gate), dtype) * up, dtype)
    assert_no_worse(inner, activated, first.exact()[0])
    dense = dense_product(second.inner, second.weight, second, dtype)
    assert_no_worse(outputs, dense, second.exact()[0])


def dense_product(
    rows: mx.array, weight: StoredWeight, case: GateUpCase | DownCase, dtype: mx.Dtype
) -> Floats:
    """Rows in the plan's order times their experts' weights, summed in float32, rounded."""
    own = np.asarray(case.plan.experts).reshape(-1)[np.asarray(case.plan.rows)]
    rows_, outputs = as_float64(rows).astype(np.float32), np.empty((len(own), weight.shape[1]))
    for expert in np.unique(own):
        of_expert = rounded(unpacked_exactly(weight, mx.array(expert)), dtype).astype(np.float32)
        outputs[own == expert] = rows_[own == expert] @ of_expert.T
    return rounded(outputs, dtype)


def rounded(values: Floats, dtype: mx.Dtype) -> Floats:
    return as_float64(mx.array(values.astype(np.float32)).astype(dtype))


def assert_no_worse(got: mx.array, dense: Floats, want: Floats) -> None:
    kernel, product = as_float64(got) - want, dense - want
    assert np.abs(kernel).max() <= 1.001 * np.abs(product).max()
    assert np.square(kernel).mean() <= 1.001 * np.square(product).mean()


# --- the draw


def test_200_000_draws_follow_the_distribution() -> None:
    """Chi-square at p = 0.001 over 5,000 tokens in two slices; under 5 expected: pooled."""
    vocab, count, part = 5000, 200_000, 4000
    raw = np.random.default_rng(5).normal(0, 1, vocab).astype(np.float32)
    one = Logits(mx.array(raw[None]), 30.0, 0.8)
    uniforms = CounterNoise(99).uniforms(0, 0, count)
    drawn = []
    with simulated():
        slices = stats(one)
        # The same row many times over: read once, drawn from `part` times a launch.
        wide = Slices(*(mx.repeat(a, part, axis=0) for a in vars(slices).values()))
        rows = Logits(mx.repeat(one.raw, part, axis=0), 30.0, 0.8)
        for at in range(0, count, part):
            drawn.append(np.array(pick(rows, wide, uniforms[at : at + part])[2]))
    seen = np.bincount(np.concatenate(drawn), minlength=vocab)
    masses = np.exp(30 * np.tanh(raw.astype(np.float64) / 30) / np.float64(np.float32(0.8)))
    expected = count * masses / masses.sum()
    assert_chi_square(seen, expected)
    assert vocab > SLICE
