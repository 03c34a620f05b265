"""What the selftest checks of the expert kernels: all dtypes and packings, small and 26B.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import mlx.core as mx

from ...machine.device import on_gpu
from ...machine.dtypes import dtype_name
from ...model.experts import max_tiles
from ..check import Case, Check, Tolerance, mismatches
from .cases import CombineCase, DownCase, GateUpCase, PlanCase, Sizes
from .launch import BITS, DTYPES, GROUPS

Size = Literal["small", "26B"]

SMALL = Sizes(L=50, E=3, K=2, H=128, I=128, dtype=mx.float32)
REAL = Sizes(L=256, E=128, K=8, H=2816, I=704, dtype=mx.bfloat16, bits=4, group=64)
FEW = replace(REAL, L=32, E=16)  # as many rows an expert, an eighth of the memory
SUDOKU = Sizes(L=90, E=8, K=2, H=128, I=64, dtype=mx.float32)  # the embedded checkpoint's
PACKINGS = [(0, 0), *((bits, group) for bits in BITS for group in GROUPS)]

# Of a row's largest value. Kernels sum in float32 and round once: by half an ulp at most.
LIMITS = {mx.float32: 1e-5, mx.float16: 2**-11 + 1e-5, mx.bfloat16: 2**-8 + 1e-5}
REASON = "sums in float32, rounded once"
TWIN_LIMITS = {mx.float32: 2e-3, mx.float16: 4e-3, mx.bfloat16: 3e-2}
TWIN_REASON = "the operations round after each product, and multiply in tf32 on an M5"
CPU_LIMITS = {mx.float32: 1e-5, mx.float16: 3e-2, mx.bfloat16: 2e-1}
CPU_REASON = "the operations sum quantised products in 16 bits on a CPU"


def checks() -> Iterator[Check]:
    """Every instantiation of the four kernels, small, and those of the checkpoints there are."""
    for dtype in DTYPES:
        small, sudoku = replace(SMALL, dtype=dtype), replace(SUDOKU, dtype=dtype)
        yield from (plan_check(small, "small"), combine_check(small, "small"))
        for bits, group in PACKINGS:
            yield from product_checks(replace(small, bits=bits, group=group), "small")
        yield from (plan_check(sudoku, "small"), *product_checks(sudoku, "small"))
        real = replace(REAL, dtype=dtype)
        yield from (plan_check(real, "26B"), combine_check(real, "26B"))
    for sizes in (REAL, replace(REAL, bits=8), *few()):
        yield from product_checks(sizes, "26B")


def few() -> Iterator[Sizes]:
    """Other dtypes and packings at 26B's widths, as `convert` makes them."""
    for dtype in DTYPES:
        for bits, group in PACKINGS:
            if (dtype, group) != (REAL.dtype, REAL.group):
                yield replace(FEW, dtype=dtype, bits=bits, group=group)


def plan_check(sizes: Sizes, size: Size) -> Check:
    """moe_plan; its twin compares every choice with every expert."""
    exact = "whole numbers"
    table = 12 * max_tiles(sizes.num_rows, sizes.E)
    return Check(
        kernel="moe_plan",
        instantiation=f"{dtype_name(sizes.dtype)}, {sizes.L} rows, {sizes.K} of {sizes.E} experts",
        size=size,
        memory_bytes=512 * sizes.L * sizes.E + 8 * sizes.num_rows * sizes.E,
        flops=4 * sizes.num_rows,
        bytes_moved=sizes.L * sizes.E * sizes.dtype.size
        + 4 * sizes.E
        + 12 * sizes.num_rows
        + table,
        tolerances=(
            Tolerance("experts", 0.0, exact, mismatches),
            Tolerance("weights", 1e-5, "a softmax of few values in float32"),
            Tolerance("rows", 0.0, exact, mismatches),
            Tolerance("tiles", 0.0, exact, mismatches),
        ),
        prepare=partial(PlanCase, sizes),
    )


def product_checks(sizes: Sizes, size: Size) -> Iterator[Check]:
    """moe_gate_up and moe_down, where groups divide the rows: those of 128 do not divide 704."""
    x, inner, outputs = sizes.L * sizes.H, sizes.num_rows * sizes.I, sizes.num_rows * sizes.H
    group = sizes.group or 1
    if sizes.H % group == 0:
        yield _product(GateUpCase, "moe_gate_up", (2 * sizes.I, sizes.H), x + inner, sizes, size)
    if sizes.I % group == 0:
        yield _product(DownCase, "moe_down", (sizes.H, sizes.I), inner + outputs, sizes, size)


def combine_check(sizes: Sizes, size: Size) -> Check:
    """moe_combine."""
    values = sizes.num_rows * sizes.H
    dtype = dtype_name(sizes.dtype)
    return Check(
        kernel="moe_combine",
        instantiation=f"{dtype}, {sizes.L} rows of {sizes.H}, {sizes.K} experts each",
        size=size,
        memory_bytes=32 * values,
        flops=2 * values,
        bytes_moved=(values + sizes.L * sizes.H) * sizes.dtype.size + 4 * sizes.num_rows,
        tolerances=_tolerance("mixed", sizes.dtype),
        twin_tolerances=_twin_tolerance("mixed", sizes.dtype),
        prepare=partial(CombineCase, sizes),
    )


def _product(
    case: Callable[[Sizes], Case],
    kernel: str,
    shape: tuple[int, int],
    activations: int,
    sizes: Sizes,
    size: Size,
) -> Check:
    """shape: outputs and inputs of one expert; activations: values read and written."""
    outputs, width = shape
    weight = weight_bytes(sizes, outputs * width)
    tiles = 12 * max_tiles(sizes.num_rows, sizes.E)
    made = 3 * weight if sizes.bits else 16 * sizes.E * outputs * width
    in_float64 = 6 * outputs * width + 4 * sizes.num_rows * (outputs + width)
    return Check(
        kernel=kernel,
        instantiation=str(sizes),
        size=size,
        memory_bytes=made + 8 * in_float64,  # of one expert at a time, and of all results
        flops=2 * sizes.num_rows * outputs * width,
        bytes_moved=weight + activations * sizes.dtype.size + 4 * sizes.num_rows + tiles,
        tolerances=_tolerance("rows", sizes.dtype),
        twin_tolerances=_twin_tolerance("rows", sizes.dtype),
        prepare=partial(case, sizes),
    )


def weight_bytes(sizes: Sizes, values: int) -> int:
    """Of the weight of all experts, each of so many values."""
    if not sizes.bits:
        return sizes.E * values * sizes.dtype.size
    scales_and_biases = 2 * values // sizes.group * sizes.dtype.size
    return sizes.E * (values * sizes.bits // 8 + scales_and_biases)


def _tolerance(output: str, dtype: mx.Dtype) -> tuple[Tolerance]:
    return (Tolerance(output, LIMITS[dtype], REASON),)


def _twin_tolerance(output: str, dtype: mx.Dtype) -> tuple[Tolerance]:
    if on_gpu():
        return (Tolerance(output, TWIN_LIMITS[dtype], TWIN_REASON),)
    return (Tolerance(output, CPU_LIMITS[dtype], CPU_REASON),)
