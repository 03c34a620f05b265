"""The expert kernels with one fault each, and inputs on which each shows.

Run as a program under a sanitizer it tries those faults that a plain run need not notice.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import mlx.core as mx

sys.path.extend(str(folder) for folder in Path(__file__).parents[:3])

from mutants import Mutant, Run, barriers, shortened, try_all

from mlx_diffgemma.kernels.experts.cases import CombineCase, DownCase, GateUpCase, PlanCase, Sizes
from mlx_diffgemma.model import experts as reference

PLAN = [
    *barriers("moe_plan", 3),
    *shortened("moe_plan", chosen="512 * TOP_K", counts="512", starts="PADDED"),
    Mutant("moe_plan", "row < rows_in", "row <= rows_in"),
    Mutant("moe_plan", "row < rows_in", "row < rows_in - 1"),
    Mutant("moe_plan", "row += 16", "row += 17"),
    Mutant("moe_plan", "row += 16", "row += 15", sanitizer="thread"),
    Mutant("moe_plan", "expert < E", "expert <= E"),
    Mutant("moe_plan", "expert < E", "expert < E - 1"),
    Mutant("moe_plan", "i < PER_LANE", "i < PER_LANE - 1", 2),
    Mutant("moe_plan", "slot < TOP_K", "slot < TOP_K - 1"),
    Mutant("moe_plan", "lane < TOP_K ?", "lane < TOP_K - 1 ?"),
    Mutant("moe_plan", "if (lane < TOP_K)", "if (lane <= TOP_K)"),
    Mutant("moe_plan", "if (lane < TOP_K)", "if (lane < TOP_K - 1)"),
    Mutant("moe_plan", "rank[i] > best", "rank[i] >= best"),
    Mutant("moe_plan", "simd_min(", "simd_max("),
    Mutant("moe_plan", "(choices + SEGMENTS - 1) / SEGMENTS", "choices / SEGMENTS"),
    Mutant("moe_plan", "metal::min(begin + length, choices)", "begin + length - 1"),
    Mutant("moe_plan", "length, choices)", "length, choices + 1)", sanitizer="address"),
    Mutant("moe_plan", "s < SEGMENTS", "s < SEGMENTS - 1"),
    Mutant("moe_plan", "s < SEGMENTS", "s <= SEGMENTS", sanitizer="address"),
    Mutant("moe_plan", "s < segment", "s <= segment"),
    Mutant("moe_plan", "(of_expert + 31) / 32", "(of_expert + 32) / 32"),
    Mutant("moe_plan", "(of_expert + 31) / 32", "(of_expert + 30) / 32"),
    Mutant("moe_plan", "min(32, of_expert", "min(33, of_expert"),
    Mutant("moe_plan", "j < own_tiles", "j < own_tiles - 1"),
    Mutant("moe_plan", "j < own_tiles", "j <= own_tiles"),
    Mutant("moe_plan", "31 * metal::min(E", "30 * metal::min(E"),
    Mutant("moe_plan", "i < 3 * all_tiles", "i < 3 * all_tiles - 1"),
    Mutant("moe_plan", "i < 3 * all_tiles", "i <= 3 * all_tiles", sanitizer="address"),
    Mutant("moe_plan", "3 * tiles_before + lane", "3 * tiles_before + 1 + lane"),
    Mutant("moe_plan", "at += 1", "at += 0"),
]


def of_both(kernel: str) -> Iterator[Mutant]:
    """Faults in what moe_gate_up and moe_down share."""
    yield from barriers(kernel, 1)
    yield Mutant(kernel, "staged[STAGED];", "staged[STAGED - 16];", sanitizer="address")
    yield Mutant(kernel, "(k0 / TILE_STEP % 2)", "(k0 / TILE_STEP % 1)")
    yield Mutant(kernel, "k0 < WIDTH", "k0 < WIDTH - TILE_STEP")
    yield Mutant(kernel, "k0 < WIDTH", "k0 <= WIDTH")
    yield Mutant(kernel, "k < TILE_STEP", "k < TILE_STEP - 8")
    yield Mutant(kernel, "k < TILE_STEP", "k <= TILE_STEP")
    yield Mutant(kernel, "< 8 * fragments", "< 8 * fragments - 1")
    yield Mutant(kernel, "i < own_values + 8", "i < own_values + 7")
    yield Mutant(kernel, "i < own_values + 8", "i < own_values + 9", sanitizer="thread")
    yield Mutant(kernel, "n < 2 * FRAGMENTS", "n < 2 * FRAGMENTS - 1", 1)
    yield Mutant(kernel, "n < 2 * FRAGMENTS", "n < 2 * FRAGMENTS - 1", 2)
    yield Mutant(kernel, "i < fragments", "i < fragments - 1")
    yield Mutant(kernel, "(count + 7) / 8", "(count + 6) / 8")
    yield Mutant(kernel, "count - 1)", "count)", sanitizer="address")
    yield Mutant(kernel, "row < count", "row <= count")
    yield Mutant(kernel, "row < count", "row < count - 1")
    yield Mutant(kernel, "count == 0", "count < 0", sanitizer="address")


GATE_UP = [
    *of_both("moe_gate_up"),
    Mutant("moe_gate_up", "INNER - 1)", "INNER)", sanitizer="address"),
    Mutant("moe_gate_up", "+ j < INNER", "+ j <= INNER"),
    Mutant("moe_gate_up", "+ j < INNER", "+ j < INNER - 1"),
]
DOWN = [
    *of_both("moe_down"),
    Mutant("moe_down", "HIDDEN - 1)", "HIDDEN)", sanitizer="address"),
    Mutant("moe_down", "+ j < HIDDEN", "+ j <= HIDDEN"),
    Mutant("moe_down", "+ j < HIDDEN", "+ j < HIDDEN - 1"),
]
COMBINE = [
    Mutant("moe_combine", "column < HIDDEN", "column <= HIDDEN"),
    Mutant("moe_combine", "column < HIDDEN", "column < HIDDEN - 4"),
    Mutant("moe_combine", "slot < TOP_K", "slot < TOP_K - 1"),
    Mutant("moe_combine", "slot < TOP_K", "slot <= TOP_K"),
    Mutant("moe_combine", "i < 4", "i < 3", 1),
    Mutant("moe_combine", "i < 4", "i < 5", 2, sanitizer="address"),
]
ALL = [*PLAN, *GATE_UP, *DOWN, *COMBINE]


def sized(*numbers: int, bits: int = 0) -> Sizes:
    return Sizes(*numbers, dtype=mx.float32, bits=bits, group=32 if bits else 0)


# No bound is left unused: tiles, fragments and blocks of columns in part, 512 rows, unused tiles.
SIZES = {
    "moe_plan": (PlanCase, sized(512, 80, 2, 0, 0), sized(33, 1, 1, 0, 0)),
    "moe_gate_up": (GateUpCase, sized(41, 3, 2, 64, 96, bits=4), sized(41, 1, 1, 64, 32)),
    "moe_down": (DownCase, sized(41, 3, 2, 160, 64, bits=8), sized(41, 1, 1, 32, 32)),
    "moe_combine": (CombineCase, sized(5, 3, 2, 132, 0)),
}


@cache
def runs(kernel: str) -> Sequence[Run]:
    """The kernel on each of its sizes."""
    case, *sizes = SIZES[kernel]
    return [case(size, reference).kernel for size in sizes]


RUNS = {kernel: partial(runs, kernel) for kernel in SIZES}


if __name__ == "__main__":
    try_all(ALL, RUNS, sys.argv[1])
