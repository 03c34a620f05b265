"""Products of matrices for each load from device memory, of the experts' kernels."""

from collections.abc import Callable

import mlx.core as mx

from mlx_diffgemma.kernels.experts import launch
from mlx_diffgemma.kernels.experts.cases import Sizes, random_rows, random_weight
from mlx_diffgemma.kernels.experts.plan import Plan, plan_of

from .install import simulated
from .kernel import Launch

ROWS = 16  # of each expert
EXPERTS = 2
WIDTHS = {"moe_gate_up": 2816, "moe_down": 704}  # of an expert's input in the 26B model
OUTPUTS = 128  # those of one threadgroup: each has the same work

SIZES = Sizes(L=ROWS * EXPERTS, E=EXPERTS, K=1, H=0, I=0, dtype=mx.bfloat16, bits=4, group=64)


def macs_per_device_load(sizes: Sizes = SIZES) -> dict[str, float]:
    """simdgroup_multiply_accumulate calls of a simdgroup for each load of one of its lanes.

    Of the simdgroup that multiplies most and the lane that loads most, since a simdgroup waits for
    that one: lanes that load less, or have no work at all, do not raise the figure. A vector is one
    load. At 16 rows an expert and the 26B model's widths; H and I of `sizes` are not looked at.
    """
    chosen = mx.arange(sizes.num_rows, dtype=mx.uint32)[:, None] % sizes.E
    made = plan_of(chosen, mx.ones(chosen.shape), sizes.E)
    return {name: ratio(launched(name, sizes, made)) for name in WIDTHS}


def launched(name: str, sizes: Sizes, made: Plan) -> Launch:
    """The record of one launch of the kernel `name`, its loads counted."""
    x = random_rows(sizes.num_rows, WIDTHS[name], sizes.dtype)
    weight = random_weight(sizes, OUTPUTS, WIDTHS[name])
    call: Callable[..., mx.array] = {"moe_gate_up": launch.gate_up, "moe_down": launch.down}[name]
    with simulated(count_loads=True) as simulation:
        call(x, weight, made)
    return simulation.launches[0]


def ratio(record: Launch) -> float:
    """Products of the simdgroup with most, for each load of the lane with most."""
    assert record.lane_loads, f"{record.name}: nothing was loaded, or counted"
    return record.simdgroup_products / record.lane_loads
