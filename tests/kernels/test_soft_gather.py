"""The kernel that gathers soft embeddings, run by the simulator, against float64.

Axes: R rows, V vocabulary, H hidden size.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from compare import assert_close
from facts import assert_says, raises
from gathering import (
    DTYPES,
    GIVEN,
    PACKINGS,
    assert_tail_of_level,
    assert_tiers_of_equal_tokens,
    assert_within_tail,
    distributions,
    gathered_by_definition,
    logits_of,
    random_table,
    row_at_level,
)
from metal_sim import ORDERS, simulated
from numpy.typing import NDArray

from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.diffusion import classes
from mlx_diffgemma.diffusion.classes import class_order
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import as_float64, worst
from mlx_diffgemma.kernels.classes.checks import random_order
from mlx_diffgemma.kernels.denoise.launch import Slices, stats
from mlx_diffgemma.kernels.soft_gather import trial as kernels
from mlx_diffgemma.kernels.soft_gather.checks import ClassGatherCase, GatherCase, Sizes
from mlx_diffgemma.kernels.soft_gather.launch import gather_by_class, gather_in_kernel, not_covered
from mlx_diffgemma.model.soft_gather import HALF_ULP, PRODUCT, Gathered, Table, gather

Seen = tuple[Logits, Slices]


def in_all_orders(case: GatherCase | ClassGatherCase) -> list[mx.array]:
    """The kernel's results, which must be the same to the bit however threads are scheduled."""
    results = []
    for order in ORDERS:
        with simulated(order=order):
            results.append(list(case.kernel()))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert mx.array_equal(a, b, equal_nan=True).item()
    return results[0]


def seen(raw: NDArray[Any], dtype: mx.Dtype) -> Seen:
    """Rows [R, V], and the statistics of their slices."""
    logits = logits_of(raw, dtype)
    with simulated():
        return logits, stats(logits)


def gathered(rows: Seen, table: Table) -> Gathered:
    with simulated():
        return Gathered(*gather_in_kernel(*rows, table))


# --- the kernel, as its reference in tests/model/test_embedding.py


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_gathers_what_is_defined(dtype: mx.Dtype, bits: int, group: int) -> None:
    with simulated():
        case = GatherCase.of(Sizes(16, 5003, 256, dtype, bits, group), GIVEN)
    right = case.exact()
    soft, *others = kernels.tolerances(HALF_ULP[dtype])
    limits = (replace(soft, limit=4 * HALF_ULP[dtype]), *others)
    assert worst(in_all_orders(case), right, limits).allowed
    assert set(right[2].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("dtype", "bits", "group"),
    [
        (mx.bfloat16, 4, 64),
        (mx.float16, 0, 32),
        *(
            pytest.param(dtype, *packing, marks=pytest.mark.slow)
            for dtype in DTYPES
            for packing in PACKINGS
        ),
    ],
)
def test_rows_by_class_are_those_with_a_bias(dtype: mx.Dtype, bits: int, group: int) -> None:
    with simulated():
        sizes = Sizes(16, 5003, 256, dtype, bits, group, classes=41)
        case = ClassGatherCase.of(sizes, GIVEN)
    right = case.exact()
    soft, *others = kernels.tolerances(HALF_ULP[dtype])
    limits = (replace(soft, limit=4 * HALF_ULP[dtype]), *others)
    assert worst(in_all_orders(case), right, limits).allowed
    assert worst(case.reference(), right, (soft, *others)).allowed
    assert set(right[2].tolist()) == {0, 1, 2}


def test_what_is_forbidden_is_not_kept_and_adds_to_no_tail() -> None:
    """One class of four tokens is possible, between heavier ones that are not; its share is 1."""
    raw = np.random.default_rng(0).normal(0, 4, (3, 5003)).astype(np.float32)
    own = np.zeros(5003, np.int32)
    own[[3, 300, 301, 5002]] = 1
    raw[:, own == 1] = [-3.0, -2.0, -2.5, -4.0]
    order, bias = class_order(own, 2), mx.array([[-np.inf, shift] for shift in (0.0, 60.0, -60.0)])
    logits, table = logits_of(raw, mx.bfloat16), random_table(Sizes(0, 5003, 64, mx.bfloat16))
    with simulated():
        by_class = kernels.seen_by_class(logits, order, bias)
        found = Gathered(*gather_by_class(logits, *by_class, order, table))
    processed = as_float64(logits.processed().astype(mx.bfloat16))[:, own == 1]
    shares = np.exp(processed) / np.exp(processed).sum(axis=1, keepdims=True)
    rows = as_float64(table.rows(mx.array(np.flatnonzero(own == 1))))
    assert found.tier.tolist() == [0, 0, 0]
    assert_close(found.tail, np.zeros(3), 2e-5, "tail")
    assert_close(as_float64(found.soft), shares @ rows * table.scale, 0.1, "soft, of up to 20")


@pytest.mark.parametrize(
    "vocab",
    [
        1,
        5,
        *(pytest.param(vocab, marks=pytest.mark.slow) for vocab in (127, 129, 4096)),
        2081,
        10_003,
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_left_out_is_within_the_measured_tail(vocab: int, dtype: mx.Dtype) -> None:
    """Also where there are fewer blocks than are taken, which the reference does not allow."""
    table, rows = random_table(Sizes(0, vocab, 64, dtype)), seen(distributions(vocab), dtype)
    assert_within_tail(gathered(rows, table), rows[0], table)


def test_equal_tokens_are_kept_up_to_the_number_of_a_tier() -> None:
    rows = seen(distributions(5003), mx.bfloat16)
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    assert_tiers_of_equal_tokens(gathered(rows, table))


@pytest.mark.parametrize("kept", [(64,), (1, 64)])
@pytest.mark.parametrize("level", [1, 2, 5, 8])
def test_levels_are_powers_of_the_root_of_a_half(level: int, kept: tuple[int, ...]) -> None:
    raw, share = row_at_level(level)
    table = random_table(Sizes(0, 5003, 64, mx.float16, kept=kept))
    assert_tail_of_level(gathered(seen(raw, mx.float16), table), share)


def test_a_row_that_is_not_finite_does_not_suffice_and_harms_no_other() -> None:
    raw = distributions(5003)
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    clean = gathered(seen(raw, mx.bfloat16), table)
    raw[1, 4999] = np.nan
    raw[2] = np.nan
    found = gathered(seen(raw, mx.bfloat16), table)
    assert (np.array(found.tier)[1:3] == PRODUCT).all()
    others = mx.array([0, *range(3, len(raw))])
    assert mx.array_equal(found.soft[others], clean.soft[others]).item()


def test_one_launch_reads_what_it_is_given_without_a_copy() -> None:
    sizes = Sizes(3, 5003, 128, mx.bfloat16, 4, 64)
    with simulated() as run:
        case = GatherCase.of(sizes, GIVEN)
        case.kernel()
    assert [launch.name for launch in run.launches] == [*("denoise_stats", "soft_gather")]
    assert run.launches[-1].copied_bytes == 0
    assert run.launches[-1].output_bytes == 3 * (128 * 2 + 4 + 1)


# --- who runs


@pytest.mark.usefixtures("kernels_on")
def test_the_kernel_runs_where_it_is_on() -> None:
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    logits, slices = seen(distributions(5003), mx.bfloat16)
    ours = partial(gathered_by_definition, table=table)
    with simulated() as run:
        assert kernels.runs(logits, table, ours)
        _, tail, _ = gather_in_kernel(logits, slices, table)
    assert len(run.launches) == 1
    assert_close(tail, ours(logits).tail, 2e-5, "tail")
    with simulated():
        trial = kernels.trial(logits, table, ours)
        assert trial.disagreement(trial.kernel(), trial.reference()) is None


@pytest.mark.usefixtures("kernels_on")
def test_the_kernel_runs_by_class_where_it_is_on() -> None:
    """One launch, once class_pick has seen the rows; its trial is right; a verdict of its own."""
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    logits, order = logits_of(distributions(5003), mx.bfloat16), random_order(5003, 41, classes)

    def ours(logits: Logits, bias: mx.array) -> Gathered:
        rounded = logits.processed().astype(mx.bfloat16).astype(mx.float32)
        return gather(rounded + bias[:, order.classes], table)  # type: ignore[attr-defined]

    with simulated() as run:
        assert kernels.runs_by_class(logits, order, table, ours)
        trial = kernels.trial_by_class(logits, order, table, ours)
        assert trial.disagreement(trial.kernel(), trial.reference()) is None
    assert [launch.name for launch in run.launches] == [
        *("class_stats", "class_pick", "soft_gather")
    ]


def table_of(stored: StoredWeight) -> Table:
    mean = mx.zeros(stored.shape[1], mx.bfloat16)
    return Table(stored, mx.bfloat16, 1.0, mean, 1.0, 1.0, (64, 128))


def wide(width: int) -> Table:
    return table_of(StoredWeight(mx.zeros((5003, width), mx.bfloat16)))


def packed_as(mode: str, bits: int, group: int) -> Table:
    weight, scales, *biases = mx.quantize(mx.zeros((5003, 128), mx.bfloat16), group, bits, mode)
    kind = QuantizationConfig(mode, bits, group)
    stored = StoredWeight(weight, scales, biases[0] if biases else None, kind)
    return table_of(stored)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (wide(66), "a width of 66, not a multiple of 4"),
        (packed_as("mxfp4", 4, 32), "an embedding packed as 4-bit mxfp4, groups of 32"),
        (packed_as("affine", 6, 64), "an embedding packed as 6-bit affine, groups of 64"),
        (replace(wide(64), dtype=mx.float32), "activations in float32, not 16 bits"),
    ],
)
def test_what_the_kernel_does_not_cover_is_said_and_refused(table: Table, reason: str) -> None:
    assert not_covered(5003, table) == reason
    with raises(KernelError, "soft_gather", reason):
        gather_in_kernel(*seen(distributions(5003)[:2], mx.bfloat16), table)


@pytest.mark.usefixtures("kernels_on")
def test_what_is_not_covered_falls_back_and_is_recorded() -> None:
    (logits, _), table = seen(distributions(5003)[:2], mx.bfloat16), wide(66)
    ours = partial(gathered_by_definition, table=table)
    with simulated() as run:
        assert not kernels.runs(logits, table, ours)
        assert not kernels.runs(logits, table, ours)
    assert run.launches == []
    (line,) = dispatch.unused()
    assert_says(line, "soft_gather ... not cover ... a width of 66, not a multiple of 4")


# --- bad input


def bad_parts() -> Sequence[tuple[Seen, Table, str]]:
    """Rows or a table at fault, and the facts of the error."""
    rows = seen(distributions(5003)[:2], mx.bfloat16)
    logits, slices = rows
    packed = random_table(Sizes(0, 5003, 128, mx.bfloat16, 4, 64))
    stored = packed.stored
    assert stored.scales is not None

    def other(**changes: Any) -> Table:
        return replace(packed, stored=replace(stored, **changes))

    return [
        (seen(distributions(5003)[:2], mx.float16), packed, "logits ... float16 ... bfloat16"),
        (
            (logits, replace(slices, peaks=slices.peaks[:, :-1])),
            packed,
            "peaks ... [2, 39] ... [2, 40]",
        ),
        (rows, other(weight=stored.weight[:-1]), "weight ... [5002, 16] ... [5003, 16]"),
        (rows, other(scales=stored.scales[:, :1]), "scales ... [5003, 1] ... [5003, 2]"),
        (rows, other(weight=stored.weight.astype(mx.int32)), "weight ... int32 ... uint32"),
        (
            rows,
            other(biases=None),
            "4-bit affine, groups of 64 ... (4, 8) bits with biases ... groups of (32, 64, 128)",
        ),
        (rows, replace(packed, mean=packed.mean[1:]), "mean ... [127] ... [128]"),
        (
            rows,
            replace(packed, stored=StoredWeight(mx.zeros((5003, 128), mx.int32))),
            "weight ... int32 ... float32 ... float16 ... bfloat16",
        ),
    ]


def test_what_does_not_fit_by_class_is_refused_before_a_launch() -> None:
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    logits, order = logits_of(distributions(5003), mx.bfloat16), random_order(5003, 41, classes)
    rows, blocks = logits.raw.shape[0], order.block_class.size
    with simulated():
        read, picked = kernels.seen_by_class(logits, order, mx.zeros((rows, 41)))
    for parts, facts in (
        ((replace(read, peaks=read.peaks[1:]), picked), f"peaks ... [{rows - 1}, {blocks}]"),
        ((read, replace(picked, whole=picked.whole[0])), f"whole ... [1, 4] ... [{rows}, 1, 4]"),
        (
            (read, replace(picked, shifts=picked.shifts[:, 1:])),
            f"shifts ... [{rows}, {blocks - 1}]",
        ),
    ):
        with simulated() as run, raises(KernelError, "soft_gather", facts):
            gather_by_class(logits, *parts, order, table)
        assert run.launches == []


def test_what_does_not_fit_is_refused_before_a_launch() -> None:
    for rows, table, facts in bad_parts():
        with simulated() as run, raises(KernelError, "soft_gather", facts):
            gather_in_kernel(*rows, table)
        assert run.launches == []
