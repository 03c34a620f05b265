"""A kernel from the text of its body, run once: `x` goes in and `out` comes out."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from metal_sim import simulated

MATRIX = "#include <metal_simdgroup_matrix>\n"

# What the bodies in the tests use: t in the threadgroup, i in the grid.
POSITIONS = """
    const uint t = thread_position_in_threadgroup.x;
    const uint i = thread_position_in_grid.x;
    (void)t;
    (void)i;
"""


def run_body(
    body: str,
    x: mx.array | None = None,
    *,
    threads: int = 64,
    threadgroup: int = 64,
    size: int | None = None,
    dtype: mx.Dtype = mx.float32,
    header: str = "",
    template: Sequence[tuple[str, Any]] = (),
    init_value: float | None = None,
    atomic_outputs: bool = False,
    **options: Any,
) -> NDArray[Any]:
    """`out`, as many elements as threads unless `size` says otherwise. options: of `simulated`."""
    with simulated(**options):
        kernel = mx.fast.metal_kernel(
            name="tested",
            input_names=["x"],
            output_names=["out"],
            source=POSITIONS + body,
            header=header,
            atomic_outputs=atomic_outputs,
        )
        (out,) = kernel(
            inputs=[mx.arange(threads).astype(mx.float32) if x is None else x],
            template=list(template),
            grid=(threads, 1, 1),
            threadgroup=(threadgroup, 1, 1),
            output_shapes=[(threads if size is None else size,)],
            output_dtypes=[dtype],
            init_value=init_value,
        )
    return np.array(out.astype(mx.float32) if dtype == mx.bfloat16 else out)
