"""Denoising kernels and soft_gather at length: real sizes, 200,000 draws, sanitizers, mutants."""

from pathlib import Path
from typing import Any

import denoise_mutants
import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from metal_sim import address_space_errors, run_sanitized, simulated, subset_errors
from mutants import Mutant, assert_noticed_by, noticed
from numpy.typing import NDArray

from mlx_diffgemma.diffusion import sampler
from mlx_diffgemma.diffusion.noise import CounterNoise
from mlx_diffgemma.diffusion.sampler import SLICE, Logits
from mlx_diffgemma.kernels.denoise.checks import CommitCase, SampleCase
from mlx_diffgemma.kernels.denoise.launch import Slices, commit_in_kernel, pick, stats
from mlx_diffgemma.kernels.denoise.trial import sample_in_kernels, tied_canvas
from mlx_diffgemma.kernels.soft_gather.checks import GatherCase, Sizes
from mlx_diffgemma.model import embedding
from mlx_diffgemma.model.embedding import HALF_ULP

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
METAL = HERE.parents[1] / "metal"
OWN = ("denoise_stats", "denoise_pick", "denoise_commit", "soft_gather")
Floats = NDArray[np.float64]


# --- real sizes


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


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@pytest.mark.parametrize("bits", [0, 4, 8])
def test_soft_embeddings_at_real_widths(dtype: mx.Dtype, bits: int) -> None:
    """H 2816 over 40,003 tokens: within two roundings of float64."""
    with simulated():
        case = GatherCase.of(Sizes(24, 40_003, 2816, dtype, bits, 64), embedding, sampler)
        soft, tail, suffices = case.kernel()
    want = case.exact()
    size = np.abs(want[0]).max(axis=1, keepdims=True)
    got = np.array(soft.astype(mx.float32)) / np.where(size > 0, size, 1)
    assert_close(got, want[0] / np.where(size > 0, size, 1), 4 * HALF_ULP[dtype], "soft")
    assert_close(tail, want[1], 2e-6, "tail")
    assert np.array_equal(np.array(suffices), want[2])


# --- the draw


def chi_square_quantile(freedom: int) -> float:
    """Where a chi-square's upper 0.1% begins (Wilson and Hilferty, 1931; 3.0902: normal)."""
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 3.0902 * spread**0.5) ** 3)


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
    rare = expected < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    statistic = ((seen - expected) ** 2 / expected).sum()
    freedom = seen.size - 1
    limit = chi_square_quantile(freedom)
    print(f"chi-square {statistic:.0f} at {freedom} degrees, limit {limit:.0f}")
    assert 2500 < freedom < vocab
    assert statistic < limit, f"chi-square {statistic:.0f}, limit {limit:.0f} at {freedom} degrees"
    assert vocab > SLICE


# --- the text, and what sanitizers see


def test_the_text_keeps_to_metals_subset() -> None:
    for name in OWN:
        assert subset_errors((METAL / f"{name}.metal").read_text()) == []
    assert subset_errors((METAL / "denoise.h").read_text()) == []


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_address_spaces_of_every_instantiation(dtype: mx.Dtype) -> None:
    """Arrays of fewer than 8 elements, which Metal is given as constants, among them."""
    with simulated() as run:
        for rows, vocab in ((1, 5), (9, 5003), (2, 8192)):
            SampleCase.of((rows, vocab), dtype, sampler).kernel()
        for positions in (4, 40, 256):
            CommitCase(tied_canvas(positions), sampler).kernel()
        if dtype != mx.float32:
            for bits, group in ((0, 32), (4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)):
                for rows, vocab in ((1, 900), (3, 5003)):
                    sizes = Sizes(rows, vocab, 128, dtype, bits, group)
                    GatherCase.of(sizes, embedding, sampler).kernel()
    for text in {launch.text for launch in run.launches}:
        assert address_space_errors(text) == ""


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("file", ["test_denoise.py", "test_soft_gather.py"])
def test_sanitizers_find_nothing(sanitizer: Any, file: str) -> None:
    """The default tests of both families once more, every instantiation in them."""
    done = run_sanitized(sanitizer, "-m", "pytest", "-q", "-x", str(HERE / file))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


# --- mutants

PLAIN = [mutant for mutant in denoise_mutants.ALL if mutant.sanitizer is None]


@pytest.mark.parametrize("mutant", PLAIN, ids=str)
def test_a_fault_is_noticed(mutant: Mutant) -> None:
    assert noticed(mutant, denoise_mutants.RUNS[mutant.kernel]()), f"{mutant}: nothing showed it"


def test_faults_that_the_address_sanitizer_notices() -> None:
    assert_noticed_by("address", HERE / "denoise_mutants.py", denoise_mutants.ALL)


def test_every_barrier_and_array_of_the_kernels_has_its_fault() -> None:
    for name in OWN:
        text = (METAL / f"{name}.metal").read_text()
        body = text.partition("\n// kernel\n")[2]
        mine = [mutant for mutant in denoise_mutants.ALL if mutant.kernel == name]
        barriers = text.count("threadgroup_barrier(")
        assert sum(mutant.old.startswith("threadgroup_barrier") for mutant in mine) == barriers
        arrays = [line for line in body.splitlines() if line.startswith("threadgroup ")]
        assert sum(mutant.old.endswith("];") for mutant in mine) == len(arrays)
