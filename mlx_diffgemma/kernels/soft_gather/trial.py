"""The soft embedding gathered by a kernel that reads few logits and few embeddings, after a trial.

Axes: R rows, V vocabulary, H hidden size.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np

from ...machine.choices import Preference
from ...machine.dtypes import dtype_name
from .. import dispatch
from ..check import Tolerance, absolute_error, mismatches, row_error
from ..classes.launch import Blocks, Order, Picked, pick
from ..classes.launch import stats as class_stats
from ..classes.trial import some_bias
from ..denoise.launch import L, Logits, stats
from ..denoise.trial import CAP, TEMPERATURE, described
from ..trial import Trial, rounded_up
from .launch import Gathered, Table, gather_by_class, gather_in_kernel, not_covered

FAMILY = "soft_gather"


def runs(
    logits: L,
    table: Table,
    reference: Callable[[L], Gathered],
    preference: Preference = "auto",
) -> bool:
    """True where the kernel gathers for rows like these [R, V], once denoise_stats has seen them.

    reference: the same in MLX operations.
    """
    reason, key = not_covered(logits.raw.shape[1], table), partial(instantiation, logits, table)
    tried = partial(trial, logits, table, reference)
    return dispatch.covered_and_chosen(FAMILY, reason, key, tried, preference)


def runs_by_class(
    logits: L,
    order: Order,
    table: Table,
    reference: Callable[[L, mx.array], Gathered],
    preference: Preference = "auto",
) -> bool:
    """True where the kernel gathers for rows like these [R, V] that a form holds.

    class_stats and class_pick have to have seen them. reference: of logits and a bias a class
    [R, K], the same in MLX operations.
    """
    reason = not_covered(logits.raw.shape[1], table)
    tried = partial(trial_by_class, logits, order, table, reference)
    return dispatch.covered_and_chosen(
        FAMILY, reason, lambda: f"{instantiation(logits, table)}, by class", tried, preference
    )


def instantiation(logits: Logits, table: Table) -> str:
    """Key of a verdict: shapes, dtypes and packing."""
    stored = table.stored
    held = stored.weight if stored.scales is None else stored.scales
    packed = f"{stored.packing.name}, " if stored.packing else ""
    return f"{described(logits)}; {stored.shape[1]} wide, {packed}{dtype_name(held.dtype)}"


def tolerances(half_ulp: float) -> tuple[Tolerance, ...]:
    """Of soft, tail and tier."""
    return (
        Tolerance(
            "soft",
            12 * half_ulp,
            "of a row's largest value: the reference rounds shares, embeddings, sum and scaled "
            "sum, and a share on a level may be kept by one only",
            row_error,
        ),
        Tolerance("tail", 2e-5, "a float32 sum over the vocabulary", absolute_error),
        Tolerance("tier", 0, "a row at the bound is as rare as a share on a level", mismatches),
    )


def trial(logits: L, table: Table, reference: Callable[[L], Gathered]) -> Trial:
    """The trial on other rows than `logits`, and the very table: memory may hold no second one."""
    rows, vocab = logits.raw.shape
    raw = zipf_rows((rounded_up(rows), vocab), logits.raw.dtype)
    others = replace(logits, raw=raw, cap=CAP, temperature=TEMPERATURE)
    slices = stats(others)
    mx.eval(slices.records, slices.peaks)
    return Trial(
        kernel=lambda: gather_in_kernel(others, slices, table),
        reference=lambda: reference(others),
        tolerances=tolerances(table.half_ulp),
    )


def trial_by_class(
    logits: L, order: Order, table: Table, reference: Callable[[L, mx.array], Gathered]
) -> Trial:
    """The trial on other rows than `logits`, the very order and the very table."""
    rows, vocab = logits.raw.shape
    raw = zipf_rows((rounded_up(rows), vocab), logits.raw.dtype)
    others = replace(logits, raw=raw, cap=CAP, temperature=TEMPERATURE)
    bias = some_bias(raw.shape[0], order)
    seen, picked = seen_by_class(others, order, bias)
    mx.eval(seen.arrays, picked.whole, picked.shifts)
    return Trial(
        kernel=lambda: gather_by_class(others, seen, picked, order, table),
        reference=lambda: reference(others, bias),
        tolerances=tolerances(table.half_ulp),
    )


def seen_by_class(logits: Logits, order: Order, bias: mx.array) -> tuple[Blocks, Picked]:
    """All that soft_gather takes of rows with a bias a class [R, K]."""
    seen = class_stats(logits, order)
    return seen, pick(logits, seen, order, bias, mx.full((logits.raw.shape[0], 2), 0.5))


def zipf_rows(shape: tuple[int, int], dtype: mx.Dtype) -> mx.array:
    """Raw logits [R, V] of tokens whose shares fall as rank^-a, a from 0 to 5 over the rows.

    So some rows are flat, some certain, and some of every tier.
    """
    rows, vocab = shape
    heights = np.random.default_rng(0).standard_exponential((rows, vocab), np.float32)
    return mx.array(
        heights * np.linspace(0, 5 * TEMPERATURE, rows, dtype=np.float32)[:, None]
    ).astype(dtype)
