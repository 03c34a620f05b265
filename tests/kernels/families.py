"""The families of kernels, with what their tests at length have in common.

Run as a program under a sanitizer, `families.py FAMILY SANITIZER` tries the mutants of a family
that need this sanitizer to be noticed.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import classes_mutants
import denoise_mutants
import experts_mutants
import mlx.core as mx
import router_mutants
import soft_gather_mutants
from gathering import GIVEN
from mutants import Kernel, controls, tried, try_in_children

from mlx_diffgemma.diffusion import classes, sampler
from mlx_diffgemma.kernels.classes.checks import ClassCase
from mlx_diffgemma.kernels.denoise.checks import CommitCase, SampleCase
from mlx_diffgemma.kernels.denoise.trial import tied_canvas
from mlx_diffgemma.kernels.experts import cases
from mlx_diffgemma.kernels.router.checks import RouteCase
from mlx_diffgemma.kernels.router.checks import checks as router_checks
from mlx_diffgemma.kernels.soft_gather.checks import ClassGatherCase, GatherCase
from mlx_diffgemma.kernels.soft_gather.checks import Sizes as GatherSizes
from mlx_diffgemma.model import experts

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
PACKINGS = ((0, 32), (4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128))


def of_experts() -> Iterator[object]:
    """Every dtype and packing, and tiny-sudoku's; arrays of fewer than 8 elements among them."""
    tiny = cases.Sizes(L=1, E=2, K=2, H=32, I=32, dtype=mx.float32)
    for kind in (cases.PlanCase, cases.GateUpCase, cases.DownCase, cases.CombineCase):
        yield kind(tiny, experts).kernel()
    for check in experts_mutants.simulated_checks():
        yield check.prepare().kernel()


def of_router() -> Iterator[object]:
    """Every dtype and number of experts; scores of fewer than 8 elements among them."""
    yield RouteCase.of((1, 2, 2), mx.float32, experts).kernel()
    for check in router_checks(experts):
        if check.size == "small":
            yield check.prepare().kernel()


def of_denoise() -> Iterator[object]:
    """Every dtype and three vocabularies, and canvases of three lengths."""
    for dtype in DTYPES:
        for shape in ((1, 5), (9, 5003), (2, 8192)):
            yield SampleCase.of(shape, dtype, sampler).kernel()
    for positions in (4, 40, 256):
        yield CommitCase(tied_canvas(positions), sampler).kernel()


def of_classes() -> Iterator[object]:
    """Every dtype, three vocabularies, and more blocks than one capacity holds."""
    for dtype in DTYPES:
        for shape, count in (((1, 5), 2), ((9, 5003), 41), ((9, 5003), 300), ((2, 8192), 1200)):
            yield ClassCase.of(shape, count, dtype, classes, sampler).kernel()


def of_soft_gather() -> Iterator[object]:
    """Every dtype and packing, and two vocabularies; one of them by class too."""
    for dtype in DTYPES[1:]:
        for bits, group in PACKINGS:
            for rows, vocab in ((1, 900), (3, 5003)):
                sizes = GatherSizes(rows, vocab, 128, dtype, bits, group)
                yield GatherCase.of(sizes, GIVEN).kernel()
            by_class = GatherSizes(3, 5003, 128, dtype, bits, group, classes=41)
            yield ClassGatherCase.of(by_class, GIVEN).kernel()


@dataclass(frozen=True)
class Family:
    """Kernels that stand in one folder, their tests, and launches of all they are made for."""

    kernels: Sequence[Kernel]
    tests: str  # the file of their default tests
    launches: Callable[[], Iterator[object]]  # of every instantiation
    texts: int  # number of instantiations


FAMILIES = {
    # The tiny ones; per dtype four plans, three sums and two products of 7 packings, and of 3 in
    # tiles of 16 rows; plan and both products of tiny-sudoku, by both heights.
    "experts": Family(
        experts_mutants.KERNELS, "test_experts.py", of_experts, 4 + 3 * (7 + 2 * (7 + 3)) + 3 * 6
    ),
    # The tiny one; 3 dtypes of three numbers of experts.
    "router": Family(router_mutants.KERNELS, "test_router.py", of_router, 1 + 3 * 3),
    # Statistics and draws of 3 dtypes and 3 vocabularies; commits of few positions and of many.
    "denoise": Family(denoise_mutants.KERNELS, "test_denoise.py", of_denoise, 2 * 3 * 3 + 2),
    # Statistics and draws of 3 dtypes and 3 vocabularies; masses of few classes, and of many.
    "classes": Family(classes_mutants.KERNELS, "test_classes.py", of_classes, 2 * 3 * 3 + 2),
    # 2 dtypes and 2 vocabularies, of 7 packings, and the statistics before; by class one
    # vocabulary, and before it statistics and draws.
    "soft_gather": Family(
        soft_gather_mutants.KERNELS,
        "test_soft_gather.py",
        of_soft_gather,
        2 * (2 * (7 + 1) + 7 + 2),
    ),
}
KERNELS = tuple(kernel for family in FAMILIES.values() for kernel in family.kernels)


if __name__ == "__main__":
    family, sanitizer = sys.argv[1:]
    kernels = FAMILIES[family].kernels
    try_in_children([*tried(kernels, sanitizer), *controls(kernels, sanitizer)])
