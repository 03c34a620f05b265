"""The expert kernels' faults, and inputs on which each shows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import mlx.core as mx
from mutants import Kernel, Run, barriers, fault, faults, shortened
from router_mutants import CHOICE

from mlx_diffgemma.kernels.check import Check
from mlx_diffgemma.kernels.experts.cases import CombineCase, DownCase, GateUpCase, PlanCase, Sizes
from mlx_diffgemma.kernels.experts.checks import checks
from mlx_diffgemma.model import experts as reference


def simulated_checks() -> Iterator[Check]:
    """The small ones; those of tiles of 16 rows only where a group has 64.

    Rows and groups do not meet in the text: one is of what is staged, the other of the weight.
    """
    for check in checks(reference):
        other_group = "groups of 32" in check.instantiation or "of 128," in check.instantiation
        if check.size == "small" and not (
            "tiles of 16 rows" in check.instantiation and other_group
        ):
            yield check


def sized(*numbers: int, bits: int = 0, dtype: mx.Dtype = mx.float32) -> Sizes:
    return Sizes(*numbers, dtype=dtype, bits=bits, group=32 if bits else 0)


@cache
def runs(case: type[PlanCase], *sizes: Sizes) -> Sequence[Run]:
    """The kernel on each of these sizes."""
    return [case(size, reference).kernel for size in sizes]


# No bound is left unused: tiles, fragments, steps and blocks of columns in part, 512 rows, unused
# tiles; 4 bits, 8 and none; 16-bit rows, of which a word holds two.
PART = replace(sized(300, 40, 3, 0, 0), own=range(5, 17), tile_rows=16)
PLANS = partial(runs, PlanCase, sized(512, 80, 2, 0, 0), sized(33, 1, 1, 0, 0), PART)
GATES = partial(
    runs,
    GateUpCase,
    sized(41, 3, 2, 96, 96, bits=4),
    sized(41, 1, 1, 64, 32),
    sized(9, 1, 1, 64, 32, bits=8, dtype=mx.bfloat16),
    replace(sized(17, 1, 1, 64, 32, bits=8, dtype=mx.bfloat16), tile_rows=16),
)
DOWNS = partial(
    runs,
    DownCase,
    sized(41, 3, 2, 160, 96, bits=4),
    sized(41, 1, 1, 32, 64),
    sized(9, 1, 1, 32, 64, bits=8, dtype=mx.float16),
    replace(sized(17, 1, 1, 32, 64, bits=8, dtype=mx.float16), tile_rows=16),
)
# Two simdgroups; more values than 1024 threads make at once; a sum that is rounded.
SUMS = partial(
    runs,
    CombineCase,
    sized(5, 3, 2, 132, 0),
    sized(2, 3, 2, 4100, 0),
    Sizes(3, 3, 2, 64, 0, dtype=mx.bfloat16),
    replace(sized(5, 4, 2, 132, 0), own=range(1, 3), normed=False),
)

TILE = faults(  # what moe_gate_up and moe_down share
    barriers(1),
    fault("staged[STAGED];", "staged[STAGED - 16];", sanitizer="address"),
    fault("(k0 / STEP % 2)", "(k0 / STEP % 1)"),
    fault("k0 < WIDTH", "k0 < WIDTH - STEP"),
    fault("s < WORD", "s < WORD - 1"),
    fault("s < WORD", "s <= WORD"),
    fault("n < 2 * FRAGMENTS", "n < 2 * FRAGMENTS - 1", 1, 2, 3),
    # The permutation: which word a lane loads, which value of it meets which of a row.
    fault("k0 / WORD + place.row", "k0 / WORD + place.column"),
    fault("k0 / WORD + place.row, WIDTH / WORD - 1)", "k0 / WORD + place.row, WIDTH / WORD - 2)"),
    fault("place.row, WIDTH / WORD - 1)", "place.row, WIDTH / WORD)", sanitizer="address"),
    fault("words[n], s, scale", "words[n], 0, scale"),
    fault("own * WORD + s", "own * WORD"),
    fault("8 * ((first + i) % WORD) + (first + i) / WORD", "first + i"),
    fault("(first + i) % WORD)", "i % WORD)"),
    fault("(first + i) / WORD", "first / WORD"),
    fault("(8 * s + place.column)", "(8 * s + 7 - place.column)"),
    fault("i % (VALUES / 4)", "0"),
    fault("units[u][i * 4 / VALUES]", "units[u][0]"),
    fault("(a[SIZE / 4], 1)", "(a[SIZE / 4], 0)"),
    fault("(a[SIZE / 4], 1)", "(a[0], 1)"),
    fault("k0 % GROUP < STEP", "k0 == 0"),
    fault("weight_rows, own * WORD)", "weight_rows, k0)", 1, 2),
    # What is fetched ahead: which part of a row, when, and no more than there is.
    fault("thread_index, 0);", "thread_index, STEP);"),
    fault("thread_index, k0 + STEP);", "thread_index, k0);"),
    fault("k0 + part * VALUES", "k0"),
    fault("k < WIDTH", "k <= WIDTH"),
    fault("k < WIDTH", "k < WIDTH - VALUES"),
    fault("< 8 * fragments", "< 8 * fragments - 1", 1, 2),
    fault("u < units_of_thread<T, BITS, ROWS>()", "u < units_of_thread<T, BITS, ROWS>() - 1", 1, 2),
    fault("+ TILE_THREADS - 1) / TILE_THREADS", ") / TILE_THREADS"),
    fault("i < ROWS / 8", "i < ROWS / 8 - 1"),
    fault("% 2) * ROWS", "% 2) * (ROWS - 8)"),
    fault("u < UNITS", "u < UNITS - 1"),
    fault("i < VALUES", "i < VALUES - 1"),
    fault("f < FRAGMENTS", "f < FRAGMENTS - 1", 1),
    fault("i < fragments", "i < fragments - 1"),
    fault("(count + 7) / 8", "(count + 6) / 8"),
    fault("count - 1)", "count)", sanitizer="address"),
    fault("row < count", "row <= count"),
    fault("row < count", "row < count - 1"),
)
KERNELS = (
    Kernel(
        "moe_plan",
        PLANS,
        faults(
            barriers(3),
            shortened(chosen="512 * TOP_K", counts="512", starts="PADDED"),
            CHOICE,
            fault("row < rows_in", "row <= rows_in"),
            fault("row < rows_in", "row < rows_in - 1"),
            fault("row += 16", "row += 17"),
            fault("row += 16", "row += 15", sanitizer="thread"),
            fault("expert < E ?", "expert < E - 1 ?"),
            fault("expert < E ?", "expert <= E ?", sanitizer="address"),
            fault("if (lane < TOP_K)", "if (lane <= TOP_K)"),
            fault("if (lane < TOP_K)", "if (lane < TOP_K - 1)"),
            fault("(choices + SEGMENTS - 1) / SEGMENTS", "choices / SEGMENTS"),
            fault("metal::min(begin + length, choices)", "begin + length - 1"),
            fault("length, choices)", "length, choices + 1)", sanitizer="address"),
            fault("s < SEGMENTS", "s < SEGMENTS - 1"),
            fault("s < SEGMENTS", "s <= SEGMENTS", sanitizer="address"),
            fault("s < segment", "s <= segment"),
            fault("(of_expert + ROWS - 1) / ROWS", "(of_expert + ROWS) / ROWS"),
            fault("(of_expert + ROWS - 1) / ROWS", "(of_expert + ROWS - 2) / ROWS"),
            fault("min(ROWS, of_expert", "min(ROWS + 1, of_expert"),
            fault("start + ROWS * j", "start + 32 * j"),
            fault("+ lane - FIRST;", "+ lane;"),
            fault("+ lane >= FIRST", "+ lane > FIRST"),
            fault("+ lane <= LAST", "+ lane <= LAST + 1"),
            fault("expert >= FIRST", "expert > FIRST"),
            fault("expert <= LAST", "expert < LAST"),
            fault("held ? static_cast<uint>(at)", "true ? static_cast<uint>(at)"),
            fault("j < own_tiles", "j < own_tiles - 1"),
            fault("j < own_tiles", "j <= own_tiles"),
            fault("(ROWS - 1) * metal::min(HELD", "(ROWS - 2) * metal::min(HELD"),
            fault("metal::min(HELD", "metal::min(E", sanitizer="address"),
            fault("i < 3 * all_tiles", "i < 3 * all_tiles - 1"),
            fault("i < 3 * all_tiles", "i <= 3 * all_tiles", sanitizer="address"),
            fault("3 * tiles_before + lane", "3 * tiles_before + 1 + lane"),
            fault("at += 1", "at += 0"),
            fault("places[i]", "places[at]"),
        ),
        headers=("top_experts.h",),
    ),
    Kernel(
        "moe_gate_up",
        GATES,
        faults(
            TILE,
            # moe_down does the same without rows, and stores nothing.
            fault("count == 0", "count < 0", sanitizer="address"),
            fault("INNER - 1)", "INNER)", sanitizer="address"),
            fault("+ j < INNER", "+ j <= INNER"),
            fault("+ j < INNER", "+ j < INNER - 1"),
        ),
        headers=("unpack.h", "expert_tile.h"),
    ),
    Kernel(
        "moe_down",
        DOWNS,
        faults(
            TILE,
            fault("HIDDEN - 1)", "HIDDEN)", sanitizer="address"),
            fault("+ j < HIDDEN", "+ j <= HIDDEN"),
            fault("+ j < HIDDEN", "+ j < HIDDEN - 1"),
            fault("(first + row)", "row"),
        ),
        headers=("unpack.h", "expert_tile.h"),
    ),
    Kernel(
        "moe_combine",
        SUMS,
        faults(
            barriers(1),
            shortened(squares="SIMDGROUPS"),
            fault("column < HIDDEN", "column <= HIDDEN", 1, 2),
            fault("column < HIDDEN", "column < HIDDEN - 4", 1, 2),
            fault("slot < TOP_K", "slot < TOP_K - 1"),
            fault("slot < TOP_K", "slot <= TOP_K"),
            fault("PART &&", "false &&", sanitizer="address"),
            fault("continue;", "break;"),
            fault("!NORMED", "false"),
            fault("places[row * TOP_K + slot]", "(row * TOP_K + slot)"),
            fault("+ 4 * THREADS - 1)", ")"),
            fault("part < PARTS", "part < PARTS - 1", 1, 2),
            fault("i < 4 *", "i < 3 *", 1, 2),
            fault("i < 4;", "i < 3;", 1, 2),
            fault("i < 4;", "i < 5;", 2, sanitizer="address"),
            fault("static_cast<float>(static_cast<T>(sums[i]))", "sums[i]"),
            fault("group < SIMDGROUPS", "group < SIMDGROUPS - 1"),
            fault("group < SIMDGROUPS", "group <= SIMDGROUPS", sanitizer="address"),
            fault("thread_index_in_simdgroup == 0", "thread_index_in_simdgroup == 32"),
            fault("static_cast<float>(HIDDEN)", "static_cast<float>(4 * THREADS)"),
            fault("+ eps[0]", ""),
            fault("norm[column + i]", "norm[i]"),
            fault("static_cast<T>(sums[4 * part + i] * inverse)", "(sums[4 * part + i] * inverse)"),
        ),
    ),
)
