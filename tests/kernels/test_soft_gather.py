"""The gathered soft embedding, reference and kernel (run by the simulator), against float64.

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
from facts import raises
from metal_sim import ORDERS, simulated
from numpy.typing import NDArray

from mlx_diffgemma.checkpoint.quantization import QuantizationConfig
from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.diffusion import sampler
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.errors import KernelError
from mlx_diffgemma.kernels import dispatch
from mlx_diffgemma.kernels.check import as_float64, unpacked_exactly, worst
from mlx_diffgemma.kernels.denoise.launch import Slices, stats
from mlx_diffgemma.kernels.soft_gather import trial as soft_gather
from mlx_diffgemma.kernels.soft_gather.checks import GatherCase, Sizes
from mlx_diffgemma.kernels.soft_gather.checks import random_table as random_embedding
from mlx_diffgemma.kernels.soft_gather.launch import gather_in_kernel, not_covered
from mlx_diffgemma.model import embedding
from mlx_diffgemma.model.embedding import (
    BLOCK,
    HALF_ULP,
    KEPT,
    LEVELS,
    Gathered,
    Table,
    gather,
    heaviest,
)

DTYPES = (mx.float16, mx.bfloat16)
PACKINGS = [(0, 32), (4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)]
TEMPERATURE = 0.6

Floats = NDArray[np.float64]


def in_all_orders(case: GatherCase) -> list[mx.array]:
    """The kernel's results, which must be the same to the bit however threads are scheduled."""
    results = []
    for order in ORDERS:
        with simulated(order=order):
            results.append(list(case.kernel()))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert mx.array_equal(a, b, equal_nan=True).item()
    return results[0]


Seen = tuple[Logits, Slices]


def seen(raw: NDArray[Any], dtype: mx.Dtype) -> Seen:
    """Rows [R, V], and the statistics of their slices."""
    logits = Logits(mx.array(raw.astype(np.float32)).astype(dtype), 30.0, TEMPERATURE)
    with simulated():
        return logits, stats(logits)


def random_table(sizes: Sizes) -> Table:
    table: Table = random_embedding(sizes, embedding)
    return table


def gather_in_ops(logits: Logits, table: Table) -> Gathered:
    """The definition; logits are rounded first, as the reference rounds them."""
    return gather(logits.processed().astype(table.dtype), table)


def both(rows: Seen, table: Table) -> dict[str, Gathered]:
    """Results of both; the reference only where it has more blocks to choose from than it takes."""
    with simulated():
        found = {"kernel": Gathered(*gather_in_kernel(*rows, table))}
    if rows[0].raw.shape[1] > BLOCK * (KEPT + 1):
        found["reference"] = gather_in_ops(rows[0], table)
    return found


def dense(logits: Logits, table: Table) -> Floats:
    """The whole product in float64, of logits rounded as the reference rounds them."""
    rounded = as_float64(logits.processed().astype(table.dtype))
    shares = np.exp(rounded - rounded.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares @ unpacked_exactly(table.stored, mx.arange(rounded.shape[1])) * table.scale


def distributions(vocab: int) -> NDArray[np.float32]:
    """Raw logits [R, V] from flat to peaked, and some with as many equal tokens as it comes to."""
    random = np.random.default_rng(vocab)
    rows = [step * random.exponential(1, vocab) for step in (0.0, 0.3, 1.0, 2.0, 4.0, 8.0)]
    for count in (1, 2, 4, 10, 63, 64, 65, 66, 300):
        row = np.full(vocab, -60.0)
        row[random.choice(vocab, min(count, vocab), replace=False)] = 9.0
        rows.append(row)
    close = np.full(vocab, -60.0)  # as many in one place: all in one block, or in two
    close[100 : 100 + KEPT] = 9.0
    rows.append(close)
    return np.array(rows, np.float32)


# --- the definition


@pytest.mark.parametrize("vocab", [2081, 2112, 5003])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_heaviest_are_the_heaviest_of_all(vocab: int, dtype: mx.Dtype) -> None:
    logits = mx.array(np.random.default_rng(vocab).normal(0, 9, (7, vocab))).astype(dtype)
    found, values = heaviest(logits, 65)
    ids, rows = np.array(found), as_float64(logits)
    assert ids.shape == values.shape == (7, 65)
    assert all(len(set(row)) == 65 for row in ids.tolist())
    assert np.array_equal(np.take_along_axis(rows, ids, axis=-1), as_float64(values))
    expected = np.sort(rows, axis=-1)[:, ::-1][:, :65]
    assert np.array_equal(np.sort(as_float64(values), axis=-1)[:, ::-1], expected)
    assert np.array_equal(as_float64(values)[:, -1], expected[:, -1])


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_and_reference_gather_what_is_defined(
    dtype: mx.Dtype, bits: int, group: int
) -> None:
    sizes = Sizes(9, 5003, 256, dtype, bits, group)
    with simulated():
        case = GatherCase.of(sizes, embedding, sampler)
    right = case.exact()
    limits = soft_gather.tolerances(HALF_ULP[dtype], 1)
    limits = (
        replace(limits[0], limit=4 * HALF_ULP[dtype]),
        *limits[1:2],
        replace(limits[2], limit=0),
    )
    assert worst(in_all_orders(case), right, limits).allowed
    tolerances = soft_gather.tolerances(HALF_ULP[dtype], 1)
    assert worst(case.reference(), right, tolerances).allowed
    assert 3 <= right[2].sum() < 9  # some suffice


@pytest.mark.parametrize("vocab", [1, 5, 127, 129, 2081, 4096, 10_003])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_left_out_is_within_the_measured_tail(vocab: int, dtype: mx.Dtype) -> None:
    """Whatever falls on a level to within rounding: the product is as near as the tail says.

    And where it suffices within half an ulp, and the roundings of share, sum and scaled sum.
    """
    table = random_table(Sizes(0, vocab, 64, dtype))
    rows = seen(distributions(vocab), dtype)
    exact = dense(rows[0], table)
    size = np.linalg.norm(exact, axis=1)
    for name, gathered in both(rows, table).items():
        moved = np.linalg.norm(as_float64(gathered.soft) - exact, axis=1)
        tail, suffices = as_float64(gathered.tail), np.array(gathered.suffices)
        u = HALF_ULP[dtype]
        assert (tail >= 0).all()
        assert (tail <= 1).all()
        assert (moved <= (tail + 1e-5) * table.reach + 3 * u * size).all(), name
        assert (moved <= 4 * u * size)[suffices].all(), name
        assert suffices[6:10].all(), name  # 1, 2, 4 and 10 equal tokens
        assert vocab < 65 or not suffices[[0, 12, 13, 14]].any(), (
            name
        )  # all, 65, 66 and 300 of them


def test_64_equal_tokens_are_kept_and_65_are_not() -> None:
    """65 equal tokens reach the same levels: one that 64 may reach they all miss."""
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    for gathered in both(seen(distributions(5003), mx.bfloat16), table).values():
        tail = np.array(gathered.tail)
        assert (tail[[11, 15]] < 1e-5).all()
        assert tail[12] == 1
        assert not as_float64(gathered.soft[12]).any()


@pytest.mark.parametrize("level", [1, 2, 5, 8])
def test_levels_are_powers_of_the_root_of_a_half(level: int) -> None:
    """Tokens just above a level are kept, 70 tokens just below are too many to go further down."""
    vocab, weights = 5003, np.full(5003, 1e-12)
    share = 2.0 ** (-level / 2)
    many = 70 * 0.9 * 2.0**-10
    weights[:70] = (
        0.9 * 2.0**-10
    )  # below the level 20, and above 21: those and all after are not reached
    weights[200] = share * 1.06
    weights[300:340] = max(0.0, (1 - many - share * 1.06)) / 40
    weights /= weights.sum()
    processed = np.log(weights) + 8
    raw = 30 * np.arctanh(np.clip(processed * TEMPERATURE / 30, -0.999, 0.999))
    table = random_table(Sizes(0, vocab, 64, mx.float16))
    kept = weights[weights >= 2.0**-10]
    for gathered in both(seen(raw[None], mx.float16), table).values():
        assert_close(gathered.tail, [1 - kept.sum()], 2e-3, "tail")  # logits are rounded to float16
    assert_close(LEVELS[:4], [1, 0.5**0.5, 0.5, 0.5**1.5], 1e-7, "levels")


def test_a_row_that_is_not_finite_does_not_suffice_and_harms_no_other() -> None:
    raw = distributions(5003)
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    clean = both(seen(raw, mx.bfloat16), table)["kernel"]
    raw[1, 4999] = np.nan
    raw[2] = np.nan
    found = both(seen(raw, mx.bfloat16), table)["kernel"]
    assert not np.array(found.suffices)[1:3].any()
    others = mx.array([0, *range(3, 16)])
    assert mx.array_equal(found.soft[others], clean.soft[others]).item()


def test_one_launch_reads_what_it_is_given_without_a_copy() -> None:
    sizes = Sizes(3, 5003, 128, mx.bfloat16, 4, 64)
    with simulated() as run:
        case = GatherCase.of(sizes, embedding, sampler)
        case.kernel()
    assert [launch.name for launch in run.launches] == [*("denoise_stats", "soft_gather")]
    assert run.launches[-1].copied_bytes == 0
    assert run.launches[-1].output_bytes == 3 * (128 * 2 + 4 + 1)


# --- who runs


def test_the_kernel_runs_where_it_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    dispatch.forget()
    table = random_table(Sizes(0, 5003, 64, mx.bfloat16))
    logits, slices = seen(distributions(5003), mx.bfloat16)
    ours = partial(gather_in_ops, table=table)
    with simulated() as run:
        _, tail, _ = soft_gather.gather(logits, slices, table, ours)
    assert len(run.launches) == 1
    assert_close(tail, ours(logits).tail, 2e-5, "tail")
    with simulated():
        trial = soft_gather.trial(logits, table, ours)
        assert trial.disagreement(trial.kernel(), trial.reference()) is None


def wide(width: int) -> Table:
    return Table(StoredWeight(mx.zeros((5003, width), mx.bfloat16)), mx.bfloat16, 1.0, 1.0)


def packed_as(mode: str, bits: int, group: int) -> Table:
    weight, scales, *biases = mx.quantize(mx.zeros((5003, 128), mx.bfloat16), group, bits, mode)
    kind = QuantizationConfig(mode, bits, group)
    stored = StoredWeight(weight, scales, biases[0] if biases else None, kind)
    return Table(stored, mx.bfloat16, 1.0, 1.0)


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


def test_what_is_not_covered_falls_back_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "on")
    dispatch.forget()
    rows, table = seen(distributions(5003)[:2], mx.bfloat16), wide(66)
    ours = partial(gather_in_ops, table=table)
    with simulated() as run:
        with pytest.warns(match="a width of 66, not a multiple of 4"):
            soft_gather.gather(*rows, table, ours)
        soft_gather.gather(*rows, table, ours)
    assert run.launches == []


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
        (
            rows,
            replace(packed, stored=StoredWeight(mx.zeros((5003, 128), mx.int32))),
            "weight ... int32 ... float32 ... float16 ... bfloat16",
        ),
    ]


def test_what_does_not_fit_is_refused_before_a_launch() -> None:
    for rows, table, facts in bad_parts():
        with simulated() as run, raises(KernelError, "soft_gather", facts):
            gather_in_kernel(*rows, table)
        assert run.launches == []
