"""A kernel as real ones are: a matrix product of threadgroup tiles, with barriers in a loop."""

from typing import Any

import mlx.core as mx
from one_kernel import MATRIX

from metal_sim import simulated

TILED = """
    // out = a @ b.T; a threadgroup makes 16 x 8 elements of it, each of its two simdgroups 8 x 8.
    threadgroup T a_tile[16 * 12], b_tile[8 * 12];
    const uint row = threadgroup_position_in_grid.y * 16;
    const uint column = threadgroup_position_in_grid.x * 8;
    const uint t = thread_index_in_threadgroup;
    const uint sg = simdgroup_index_in_threadgroup;
    simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (uint k = 0; k < K; k += 8) {
        for (uint j = t; j < 128; j += 64) {
            a_tile[j / 8 * 12 + j % 8] = a[(row + j / 8) * K + k + j % 8];
        }
        b_tile[t / 8 * 12 + t % 8] = b[(column + t / 8) * K + k + t % 8];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        simdgroup_matrix<T, 8, 8> left, right;
        simdgroup_load(left, a_tile + sg * 8 * 12, 12);
        simdgroup_load(right, b_tile, 12, ulong2(0, 0), true);
        simdgroup_multiply_accumulate(sum, left, right, sum);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    simdgroup_store(sum, out + (row + sg * 8) * N + column, N);
"""


def tiled_product(a: mx.array, b: mx.array, **options: Any) -> mx.array:
    """a @ b.T in float32, for rows of a multiple of 16, of b of 8, and columns of 8."""
    rows, K = a.shape
    N = b.shape[0]
    with simulated(**options):
        kernel = mx.fast.metal_kernel(
            name="tiled",
            input_names=["a", "b"],
            output_names=["out"],
            source=TILED,
            header=MATRIX,
        )
        (out,) = kernel(
            inputs=[a, b],
            template=[("T", a.dtype), ("K", K), ("N", N)],
            grid=(N // 8 * 64, rows // 16, 1),
            threadgroup=(64, 1, 1),
            output_shapes=[(rows, N)],
            output_dtypes=[mx.float32],
        )
    return out
