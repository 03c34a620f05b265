"""The expert kernels at the real widths, under sanitizers, and with a fault each."""

from dataclasses import replace
from pathlib import Path

import experts_mutants
import mlx.core as mx
import numpy as np
import pytest
from metal_sim import address_space_errors, run_sanitized, simulated, subset_errors
from metal_sim.compiler import Sanitizer
from mutants import Mutant, assert_noticed_by, noticed
from numpy.typing import NDArray

from mlx_diffgemma.checkpoint.tensors import StoredWeight
from mlx_diffgemma.kernels.check import as_float64, row_error, unpacked_exactly
from mlx_diffgemma.kernels.experts.cases import (
    CombineCase,
    DownCase,
    GateUpCase,
    PlanCase,
    Sizes,
    gelu_tanh,
)
from mlx_diffgemma.kernels.experts.checks import checks
from mlx_diffgemma.model import experts as reference

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
METAL = HERE.parents[1] / "metal"
HEADERS = ("unpack.h", "expert_tile.h")
KERNELS = {
    "moe_plan.metal": (),
    "moe_gate_up.metal": HEADERS,
    "moe_down.metal": HEADERS,
    "moe_combine.metal": (),
}
PLAIN = [mutant for mutant in experts_mutants.ALL if mutant.sanitizer is None]
REAL = Sizes(L=16, E=4, K=3, H=2816, I=704, dtype=mx.float32)
PACKINGS = [(0, 0), (4, 32), (4, 64), (8, 64)]


# --- real widths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("case", [GateUpCase, DownCase])
def test_real_widths_in_float32(case: type[GateUpCase | DownCase], bits: int, group: int) -> None:
    """1e-5 of a row's largest value."""
    made = case(replace(REAL, bits=bits, group=group), reference)
    with simulated():
        (got,) = made.kernel()
    (want,) = made.exact()
    assert row_error(as_float64(got), want) <= 1e-5


@pytest.mark.parametrize(("bits", "group"), PACKINGS)
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bfloat16", "float16"])
def test_real_widths_in_16_bits(dtype: mx.Dtype, bits: int, group: int) -> None:
    """No worse than a dense product that sums in float32 and rounds to 16 bits.

    That product's weights are rounded to 16 bits as well, as unpacked ones are. Without packing
    both down products round once: they differ where a sum lies next to a tie.
    """
    sizes = replace(REAL, dtype=dtype, bits=bits, group=group)
    first, second = GateUpCase(sizes, reference), DownCase(sizes, reference)
    with simulated():
        (inner,), (outputs,) = first.kernel(), second.kernel()
    own = first.plan.rows // first.plan.top_k
    gate, up = np.split(dense_product(first.x[own], first.weight, first, dtype), 2, axis=1)
    activated = rounded(rounded(gelu_tanh(gate), dtype) * up, dtype)
    assert_no_worse(inner, activated, first.exact()[0])
    dense = np.empty(outputs.shape)
    dense[np.asarray(second.plan.rows)] = dense_product(second.inner, second.weight, second, dtype)
    assert_no_worse(outputs, dense, second.exact()[0])


def dense_product(
    rows: mx.array, weight: StoredWeight, case: GateUpCase | DownCase, dtype: mx.Dtype
) -> NDArray[np.float64]:
    """Rows in the plan's order times their experts' weights, summed in float32, rounded."""
    experts = np.asarray(case.plan.experts).reshape(-1)[np.asarray(case.plan.rows)]
    rows_, outputs = as_float64(rows).astype(np.float32), np.empty((len(experts), weight.shape[1]))
    for expert in np.unique(experts):
        of_expert = rounded(unpacked_exactly(weight, mx.array(expert)), dtype).astype(np.float32)
        outputs[experts == expert] = rows_[experts == expert] @ of_expert.T
    return rounded(outputs, dtype)


def rounded(values: NDArray[np.float64], dtype: mx.Dtype) -> NDArray[np.float64]:
    return as_float64(mx.array(values.astype(np.float32)).astype(dtype))


def assert_no_worse(got: mx.array, dense: NDArray[np.float64], want: NDArray[np.float64]) -> None:
    kernel, product = as_float64(got) - want, dense - want
    assert np.abs(kernel).max() <= 1.001 * np.abs(product).max()
    assert np.square(kernel).mean() <= 1.001 * np.square(product).mean()


# --- the text, and what sanitizers see -----------------------------------------------------------


def test_the_text_keeps_to_metals_subset() -> None:
    for name in (*KERNELS, *HEADERS):
        assert subset_errors((METAL / name).read_text()) == []


def test_address_spaces_of_every_instantiation() -> None:
    """Arrays of fewer than 8 elements, which Metal is given as constants, among them."""
    tiny = Sizes(L=1, E=2, K=2, H=32, I=32, dtype=mx.float32)
    cases = [kind(tiny, reference) for kind in (PlanCase, GateUpCase, DownCase, CombineCase)]
    with simulated() as simulation:
        for case in [
            *cases,
            *(check.prepare() for check in checks(reference) if check.size == "small"),
        ]:
            case.kernel()
    texts = {launch.text for launch in simulation.launches}
    # Dtypes; plan and combine, two products of 7 packings; plan and both products of tiny-sudoku.
    assert len(texts) == 4 + 3 * (2 + 2 * 7) + 3 * 3
    assert {address_space_errors(text) for text in texts} == {""}


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer: Sanitizer) -> None:
    """The default tests of the kernels once more, every instantiation in them."""
    file = str(HERE / "test_experts.py")
    done = run_sanitized(sanitizer, "-m", "pytest", "-q", "-x", file)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


# --- mutants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", PLAIN, ids=str)
def test_a_fault_is_noticed(mutant: Mutant) -> None:
    assert noticed(mutant, experts_mutants.runs(mutant.kernel)), f"{mutant}: nothing showed it"


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_faults_that_a_sanitizer_notices(sanitizer: Sanitizer) -> None:
    assert_noticed_by(sanitizer, HERE / "experts_mutants.py", experts_mutants.ALL)


def test_every_barrier_and_array_of_the_kernels_has_its_fault() -> None:
    for kernel, headers in KERNELS.items():
        texts = [(METAL / file).read_text() for file in (kernel, *headers)]
        mine = [m for m in experts_mutants.ALL if f"{m.kernel}.metal" == kernel]
        barriers = sum(text.count("threadgroup_barrier(") for text in texts)
        assert sum(mutant.old.startswith("threadgroup_barrier") for mutant in mine) == barriers
        arrays = sum(text.count("    threadgroup ") for text in texts[:1])
        assert sum(mutant.old.endswith("];") for mutant in mine) == arrays
