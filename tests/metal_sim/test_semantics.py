"""Kernels that are right give what Metal would give."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from one_kernel import MATRIX, run_body
from tiled import tiled_product

from metal_sim import ORDERS, simulated

LANES = np.arange(32)


@pytest.mark.parametrize("contiguous", [True, False])
def test_the_kernel_of_mlxs_documentation(contiguous: bool) -> None:
    """From the page on custom Metal kernels: strided input, elem_to_loc, a template."""
    a = mx.random.normal((4, 16)).astype(mx.float16)[::2]
    with simulated() as simulation:
        kernel = mx.fast.metal_kernel(
            name="myexp",
            input_names=["inp"],
            output_names=["out"],
            source="""
                uint elem = thread_position_in_grid.x;
                uint loc = elem_to_loc(elem, inp_shape, inp_strides, inp_ndim);
                T tmp = inp[loc];
                out[elem] = metal::exp(tmp);
            """,
            ensure_row_contiguous=contiguous,
        )
        (out,) = kernel(
            inputs=[a],
            template=[("T", mx.float16)],
            grid=(a.size, 1, 1),
            threadgroup=(256, 1, 1),
            output_shapes=[a.shape],
            output_dtypes=[a.dtype],
        )
    assert out.shape == a.shape
    assert mx.allclose(out, mx.exp(a), rtol=1e-3)
    (launch,) = simulation.launches
    assert launch.name == "myexp"
    assert launch.template == (("T", mx.float16),)
    assert launch.output_bytes == a.nbytes
    # Four rows of which every other one is an input, without the gap after the last.
    assert launch.input_bytes == (a.nbytes if contiguous else 3 * 32)
    assert launch.copied_bytes == (a.nbytes if contiguous else 0)


@pytest.mark.parametrize("size", [7, 8], ids=["constant", "device"])
def test_small_inputs_lie_in_constant_memory(size: int) -> None:
    texts: list[str] = []

    def keep(text: str) -> str:
        texts.append(text)
        return text

    out = run_body("out[i] = x[0] + x_shape[0];", mx.ones(size), mutate=keep)
    np.testing.assert_array_equal(out, 1 + size)
    assert ("const constant float* x" if size < 8 else "const device float* x") in texts[0]


def test_a_scalar_input() -> None:
    np.testing.assert_array_equal(run_body("out[i] = x + 1;", mx.array(2.0)), 3)


def test_ragged_last_threadgroup() -> None:
    out = run_body(
        "out[i] = threads_per_threadgroup.x + 1000 * threadgroup_position_in_grid.x;",
        threads=100,
        threadgroup=64,
    )
    np.testing.assert_array_equal(out, [64] * 64 + [1036] * 36)


def test_a_grid_of_three_dimensions() -> None:
    with simulated():
        kernel = mx.fast.metal_kernel(
            name="places",
            input_names=["x"],
            output_names=["out"],
            source="""
                const uint3 p = thread_position_in_grid;
                const uint3 n = threads_per_grid;
                out[(p.z * n.y + p.y) * n.x + p.x] = p.x + 10 * p.y + 100 * p.z;
            """,
        )
        (out,) = kernel(
            inputs=[mx.zeros(8)],
            grid=(5, 3, 2),
            threadgroup=(2, 2, 2),
            output_shapes=[(2, 3, 5)],
            output_dtypes=[mx.int32],
        )
    z, y, x = np.meshgrid(np.arange(2), np.arange(3), np.arange(5), indexing="ij")
    np.testing.assert_array_equal(np.array(out), x + 10 * y + 100 * z)


def test_outputs_start_unwritten_or_at_their_value() -> None:
    body = "if (i % 2) { out[i] = 1; }"
    assert np.isnan(run_body(body)[::2]).all()
    np.testing.assert_array_equal(run_body(body, init_value=5)[::2], 5)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int32, mx.uint8])
def test_every_dtype_keeps_its_bits(dtype: mx.Dtype) -> None:
    x = mx.arange(64).astype(dtype)
    np.testing.assert_array_equal(run_body("out[i] = x[i];", x, dtype=dtype), np.arange(64))


def test_bfloat_rounds_to_nearest_even_after_every_operation() -> None:
    x = mx.random.normal((64,), key=mx.random.key(1)).astype(mx.bfloat16)
    out = run_body("out[i] = x[i] * x[i] + x[i];", x, dtype=mx.bfloat16)
    np.testing.assert_array_equal(out, np.array((x * x + x).astype(mx.float32)))


def test_half_rounds_after_every_operation() -> None:
    x = np.random.default_rng(1).standard_normal(64).astype(np.float16)
    out = run_body("out[i] = x[i] * x[i] + x[i];", mx.array(x), dtype=mx.float16)
    np.testing.assert_array_equal(out, x * x + x)


def test_multiply_and_add_are_not_contracted() -> None:
    x = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    np.testing.assert_array_equal(run_body("out[i] = x[i] * x[i] + x[i];", mx.array(x)), x * x + x)


def test_literals_are_floats() -> None:
    assert run_body("out[i] = 1.0 / 3.0 == 1.0f / 3.0f;").all()


def test_variables_nobody_set_are_not_numbers() -> None:
    assert np.isnan(run_body("float v[4]; if (i > 99) { v[i % 4] = 1; } out[i] = v[i % 4];")).all()


@pytest.mark.parametrize("space", ["", "precise::", "fast::"])
def test_functions(space: str) -> None:
    x = np.linspace(0.1, 2, 64, dtype=np.float32)
    body = (
        f"out[i] = metal::{space}tanh(x[i]) + metal::{space}rsqrt(x[i]) + metal::{space}log(x[i]);"
    )
    want = np.tanh(x.astype(float)) + 1 / np.sqrt(x.astype(float)) + np.log(x.astype(float))
    # Three functions of one ulp each and two sums, of values up to 3.
    np.testing.assert_allclose(run_body(body, mx.array(x)), want, rtol=0, atol=2e-6)


SIMDGROUP = {
    "simd_sum(v)": np.full(32, LANES.sum()),
    "simd_max(v)": np.full(32, 31),
    "simd_min(v)": np.full(32, 0),
    "simd_prefix_inclusive_sum(v)": LANES.cumsum(),
    "simd_prefix_exclusive_sum(v)": LANES.cumsum() - LANES,
    "simd_broadcast(v, 5)": np.full(32, 5),
    "simd_broadcast_first(v)": np.full(32, 0),
    "simd_shuffle(v, (lane + 3) % 32)": (LANES + 3) % 32,
    "simd_shuffle_xor(v, 5)": LANES ^ 5,
    "simd_shuffle_down(v, 4)": np.where(LANES < 28, LANES + 4, np.nan),
    "simd_shuffle_up(v, 4)": np.where(LANES > 3, LANES - 4, np.nan),
    "simd_shuffle_and_fill_up(v, -v, 4)": np.where(LANES > 3, LANES - 4, -(LANES + 28)),
    "simd_shuffle_and_fill_down(v, -v, 4)": np.where(LANES < 28, LANES + 4, -(LANES - 28)),
    "simd_shuffle_rotate_down(v, 4)": (LANES + 4) % 32,
    "simd_shuffle_rotate_up(v, 4)": (LANES - 4) % 32,
    "quad_sum(v)": LANES // 4 * 16 + 6,
    "float(ulong(simd_ballot(lane % 2)) == 0xAAAAAAAAul)": np.full(32, 1),
    "float(simd_any(lane == 3)) + 2 * float(simd_all(lane == 3))": np.full(32, 1),
}


def test_simdgroup_operations() -> None:
    """Each in two simdgroups, which do not see each other."""
    lines = [f"out[{n} * 64 + i] = {operation};" for n, operation in enumerate(SIMDGROUP)]
    body = "const uint lane = thread_index_in_simdgroup; const float v = float(lane);"
    body += " ".join(lines)
    out = run_body(body, size=64 * len(SIMDGROUP)).reshape(len(SIMDGROUP), 2, 32)
    for got, (operation, want) in zip(out, SIMDGROUP.items(), strict=True):
        np.testing.assert_array_equal(got, [want, want], err_msg=operation)


def test_operations_of_a_ragged_simdgroup() -> None:
    """Only lanes that exist take part."""
    out = run_body(
        "out[i] = simd_sum(1.0f) + simd_shuffle_down(0.0f, 1);", threads=40, threadgroup=40
    )
    np.testing.assert_array_equal(out[:31], 32)
    np.testing.assert_array_equal(out[32:39], 8)
    assert np.isnan(out[[31, 39]]).all()


def test_lanes_that_returned_take_no_part() -> None:
    out = run_body("if (i % 32 >= 20) { return; } out[i] = simd_sum(1.0f);", init_value=0)
    np.testing.assert_array_equal(out, np.where(np.arange(64) % 32 < 20, 20, 0))


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_simdgroup_matrices(dtype: mx.Dtype) -> None:
    """a @ b.T in float32; small integers are exact in every dtype."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(-8, 8, (2, 8, 8))
    body = """
        simdgroup_matrix<T, 8, 8> a, b;
        simdgroup_float8x8 c = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
        simdgroup_load(a, x, 8);
        simdgroup_load(b, x, 8, ulong2(0, 8), true);
        simdgroup_multiply_accumulate(c, a, b, c);
        for (int j = 0; j < 2; j++) { c.thread_elements()[j] *= 2.0f; }
        simdgroup_store(c, out, 8);
    """
    out = run_body(
        body,
        mx.array(np.concatenate([a, b])).astype(dtype),
        threads=32,
        threadgroup=32,
        size=64,
        header=MATRIX,
        template=[("T", dtype)],
    )
    np.testing.assert_array_equal(out.reshape(8, 8), 2 * (a @ b.T + 1))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_a_tiled_product(dtype: mx.Dtype, order: Any) -> None:
    """Small integers: exact in every dtype and every order of additions."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(-8, 8, (32, 48)), rng.integers(-8, 8, (24, 48))
    out = tiled_product(mx.array(a).astype(dtype), mx.array(b).astype(dtype), order=order)
    np.testing.assert_array_equal(np.array(out), a @ b.T)


@pytest.mark.parametrize("kind", ["device", "threadgroup"])
def test_atomics(kind: str) -> None:
    add = "atomic_fetch_add_explicit(&{}[t % 4], 1u, memory_order_relaxed);"
    if kind == "device":
        body = add.format("out")
        out = run_body(
            body, threads=200, size=4, dtype=mx.uint32, init_value=0, atomic_outputs=True
        )
    else:
        body = f"""
            threadgroup atomic_uint counts[4];
            if (t < 4) {{ atomic_store_explicit(&counts[t], 0u, memory_order_relaxed); }}
            threadgroup_barrier(mem_flags::mem_threadgroup);
            {add.format("counts")}
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (t < 4) {{ out[t] = atomic_load_explicit(&counts[t], memory_order_relaxed); }}
        """
        out = run_body(body, threads=200, threadgroup=200, size=4, dtype=mx.uint32)
    np.testing.assert_array_equal(out, 50)


def test_a_launch_counts_what_it_did() -> None:
    with simulated() as simulation:
        run = mx.fast.metal_kernel(
            name="counted",
            input_names=["x"],
            output_names=["out"],
            source="""
                threadgroup float s[64];
                s[thread_position_in_threadgroup.x] = 1;
                threadgroup_barrier(mem_flags::mem_threadgroup);
                out[thread_position_in_grid.x] = simd_sum(s[thread_position_in_threadgroup.x]);
            """,
        )
        for _ in range(2):
            run(
                inputs=[mx.zeros((4, 8)).T],
                grid=(192, 1, 1),
                threadgroup=(64, 1, 1),
                output_shapes=[(192,)],
                output_dtypes=[mx.float32],
            )
    first, second = simulation.of("counted")
    assert first == second
    assert (first.threadgroups, first.barriers, first.collectives) == (3, 3, 6)
    assert (first.threadgroup_bytes, first.output_bytes) == (256, 768)
    assert (first.input_bytes, first.copied_bytes) == (128, 128)


def test_results_may_be_lazy_and_shaped() -> None:
    """Inputs may be unevaluated; outputs take the shapes asked for, scalars and none included."""
    with simulated():
        kernel = mx.fast.metal_kernel(
            name="shaped",
            input_names=["x"],
            output_names=["a", "b"],
            source="""
                const uint i = thread_position_in_grid.x;
                if (i == 0) { a[0] = x[1]; }
                b[i] = 1;
            """,
        )
        a, b = kernel(
            inputs=[mx.arange(8) * 2],
            grid=(4, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(), (2, 2)],
            output_dtypes=[mx.int32, mx.bool_],
        )
    assert a.item() == 2
    assert b.tolist() == [[True, True], [True, True]]


def test_the_patches_are_undone() -> None:
    from mlx_diffgemma.machine import device

    before = mx.fast.metal_kernel, device.has_metal
    with simulated():
        assert device.has_metal()
        assert mx.fast.metal_kernel is not before[0]
    assert (mx.fast.metal_kernel, device.has_metal) == before
