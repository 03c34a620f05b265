"""Checks of the expert kernels for the selftest: all dtypes and packings, small and 26B.

Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Literal

import mlx.core as mx

from ...machine.device import on_gpu
from ...machine.dtypes import dtype_name
from ..check import Check, Tolerance, mismatches
from ..weights import BITS, DTYPES, GROUPS
from .cases import CombineCase, DownCase, GateUpCase, PlanCase, Sizes
from .plan import HEIGHTS, max_tiles, tiles_of

Size = Literal["small", "26B"]

SMALL = Sizes(L=50, E=3, K=2, H=128, I=128, dtype=mx.float32)
REAL = Sizes(L=256, E=128, K=8, H=2816, I=704, dtype=mx.bfloat16, bits=4, group=64)
FEW = replace(REAL, L=32, E=16)  # as many rows an expert, an eighth of the memory
SUDOKU = Sizes(L=90, E=8, K=2, H=128, I=64, dtype=mx.float32)  # the embedded checkpoint's
PACKINGS = [(0, 0), *((bits, group) for bits in BITS for group in GROUPS)]

# Of a row's largest value. Kernels sum in float32 and round once: by half an ulp at most.
LIMITS = {mx.float32: 1e-5, mx.float16: 2**-11 + 1e-5, mx.bfloat16: 2**-8 + 1e-5}
REASON = "sums in float32, rounded once"
REFERENCE_LIMITS = {mx.float32: 2e-3, mx.float16: 4e-3, mx.bfloat16: 3e-2}
REFERENCE_REASON = "the operations round after each product, and multiply in tf32 on an M5"
CPU_LIMITS = {mx.float32: 1e-5, mx.float16: 3e-2, mx.bfloat16: 2e-1}
CPU_REASON = "the operations sum quantised products in 16 bits on a CPU"
# Rounded three times: the sum, the sum over its root mean square, its product with the weight.
NORMED_LIMITS = {
    mx.float32: 1e-5,
    mx.float16: (1 + 2**-11) ** 3 - 1 + 1e-5,
    mx.bfloat16: (1 + 2**-8) ** 3 - 1 + 1e-5,
}
NORMED_REASON = "sums in float32; sum, norm and product with the weight rounded once each"


def checks(reference: ModuleType) -> Iterator[Check]:
    """Every instantiation of the four kernels, small, and those of the checkpoints there are."""
    checked = _Checked(reference)
    for dtype in DTYPES:
        small, sudoku = replace(SMALL, dtype=dtype), replace(SUDOKU, dtype=dtype)
        for sizes in (small, replace(small, tile_rows=16)):
            for bits, group in PACKINGS:
                yield from checked.products(replace(sizes, bits=bits, group=group), "small")
        for sizes in (sudoku, replace(sudoku, tile_rows=16)):
            yield from (checked.plan(sizes, "small"), *checked.products(sizes, "small"))
        yield from checked.around(small, range(1, 3), "small")
        yield from checked.around(replace(REAL, dtype=dtype), range(64, 128), "26B")
    for sizes in (REAL, replace(REAL, bits=8), replace(REAL, L=128), *few()):
        yield from checked.products(sizes, "26B")
    for sizes in (REAL, replace(REAL, bits=8), replace(REAL, L=128)):
        yield from checked.products(replace(sizes, tile_rows=16), "26B")


def few() -> Iterator[Sizes]:
    """Other dtypes and packings at 26B's widths, as `convert` makes them."""
    for dtype in DTYPES:
        for bits, group in PACKINGS:
            if (dtype, group) != (REAL.dtype, REAL.group):
                yield replace(FEW, dtype=dtype, bits=bits, group=group)


@dataclass(frozen=True)
class _Checked:
    """Checks of single kernels against one reference implementation."""

    reference: ModuleType

    def around(self, sizes: Sizes, own: range, size: Size) -> Iterator[Check]:
        """moe_plan and moe_combine of all experts, and of those that one of several Macs has."""
        for tile_rows in HEIGHTS:
            for held in (None, own):
                yield self.plan(replace(sizes, tile_rows=tile_rows, own=held), size)
        yield self.combine(sizes, size)
        for held in (None, own):
            yield self.combine(replace(sizes, own=held, normed=False), size)

    def plan(self, sizes: Sizes, size: Size) -> Check:
        """moe_plan; its reference compares every choice with every expert."""
        exact = "whole numbers"
        scores = sizes.L * sizes.E * sizes.dtype.size
        tiles = 12 * max_tiles(sizes.num_rows, sizes.held, sizes.tile_rows)
        return Check(
            kernel="moe_plan",
            instantiation=f"{dtype_name(sizes.dtype)}, {tiles_of(sizes.tile_rows)}, "
            f"{sizes.L} rows, {sizes.K} of {sizes.E} experts{_part(sizes)}",
            size=size,
            memory_bytes=512 * sizes.L * sizes.E + 8 * sizes.num_rows * sizes.E,
            flops=4 * sizes.num_rows,
            bytes_moved=scores + 4 * sizes.E + 16 * sizes.num_rows + tiles,
            tolerances=(
                Tolerance("experts", 0.0, exact, mismatches),
                Tolerance("weights", 1e-5, "a softmax of few values in float32"),
                Tolerance("rows", 0.0, exact, mismatches),
                Tolerance("places", 0.0, exact, mismatches),
                Tolerance("tiles", 0.0, exact, mismatches),
            ),
            prepare=partial(PlanCase, sizes, self.reference),
        )

    def products(self, sizes: Sizes, size: Size) -> Iterator[Check]:
        """moe_gate_up and moe_down, where groups divide the rows: 128 does not divide 704."""
        x, inner, outputs = sizes.L * sizes.H, sizes.num_rows * sizes.I, sizes.num_rows * sizes.H
        group = sizes.group or 1
        if sizes.H % group == 0:
            gate_up = self._product(sizes, size, (2 * sizes.I, sizes.H), x + inner)
            prepare = partial(GateUpCase, sizes, self.reference)
            moved = gate_up.bytes_moved + 4 * sizes.num_rows  # it is told where its rows lie
            yield replace(gate_up, kernel="moe_gate_up", bytes_moved=moved, prepare=prepare)
        if sizes.I % group == 0:
            yield self._product(sizes, size, (sizes.H, sizes.I), inner + outputs)

    def combine(self, sizes: Sizes, size: Size) -> Check:
        """moe_combine."""
        values, row = sizes.num_rows * sizes.H, sizes.H * sizes.dtype.size
        return Check(
            kernel="moe_combine",
            instantiation=f"{dtype_name(sizes.dtype)}, {sizes.L} rows of {sizes.H}, "
            f"{sizes.K} experts each{_part(sizes)}",
            size=size,
            memory_bytes=32 * values,
            flops=2 * values + 4 * sizes.L * sizes.H,
            bytes_moved=values * sizes.dtype.size + (sizes.L + 1) * row + 8 * sizes.num_rows,
            tolerances=(
                (Tolerance("mixed", NORMED_LIMITS[sizes.dtype], NORMED_REASON),)
                if sizes.normed
                else _tolerance("mixed", sizes.dtype)
            ),
            reference_tolerances=_reference_tolerance("mixed", sizes.dtype),
            prepare=partial(CombineCase, sizes, self.reference),
        )

    def _product(self, sizes: Sizes, size: Size, shape: tuple[int, int], activations: int) -> Check:
        """moe_down, or what moe_gate_up shares with it.

        shape: outputs and inputs of one expert; activations: values read and written.
        """
        outputs, width = shape
        weight = weight_bytes(sizes, outputs * width)
        tiles = 12 * max_tiles(sizes.num_rows, sizes.E, sizes.tile_rows)
        made = 3 * weight if sizes.bits else 16 * sizes.E * outputs * width
        in_float64 = 6 * outputs * width + 4 * sizes.num_rows * (outputs + width)
        return Check(
            kernel="moe_down",
            instantiation=str(sizes),
            size=size,
            memory_bytes=made + 8 * in_float64,  # of one expert at a time, and of all results
            flops=2 * sizes.num_rows * outputs * width,
            bytes_moved=weight + activations * sizes.dtype.size + tiles,
            tolerances=_tolerance("rows", sizes.dtype),
            reference_tolerances=_reference_tolerance("rows", sizes.dtype),
            prepare=partial(DownCase, sizes, self.reference),
        )


def _part(sizes: Sizes) -> str:
    """What is left out of the whole mixture, in words."""
    held = "" if sizes.own is None else f", {sizes.held} of them here"
    return held + ("" if sizes.normed else ", not normed")


def weight_bytes(sizes: Sizes, values: int) -> int:
    """Bytes of the weight of all experts, each of so many values."""
    if not sizes.bits:
        return sizes.E * values * sizes.dtype.size
    scales_and_biases = 2 * values // sizes.group * sizes.dtype.size
    return sizes.E * (values * sizes.bits // 8 + scales_and_biases)


def _tolerance(output: str, dtype: mx.Dtype) -> tuple[Tolerance]:
    return (Tolerance(output, LIMITS[dtype], REASON),)


def _reference_tolerance(output: str, dtype: mx.Dtype) -> tuple[Tolerance]:
    if on_gpu():
        return (Tolerance(output, REFERENCE_LIMITS[dtype], REFERENCE_REASON),)
    return (Tolerance(output, CPU_LIMITS[dtype], CPU_REASON),)
