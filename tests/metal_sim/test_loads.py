"""Loads from device memory, and matrix products, as launches count them."""

import mlx.core as mx
import pytest
from one_kernel import MATRIX, POSITIONS

from metal_sim import Launch, simulated
from metal_sim.expert_loads import macs_per_device_load

SIMDGROUPS = 2
THREADS = 32 * SIMDGROUPS


def launched(body: str, x: mx.array, *, count_loads: bool = True, header: str = "") -> Launch:
    """The record of a launch of two simdgroups in one threadgroup; writes out [64] float32."""
    with simulated(count_loads=count_loads) as simulation:
        kernel = mx.fast.metal_kernel(
            name="counted",
            input_names=["x"],
            output_names=["out"],
            source=POSITIONS + body,
            header=header,
        )
        kernel(
            inputs=[x],
            template=[("T", x.dtype)],
            grid=(THREADS, 1, 1),
            threadgroup=(THREADS, 1, 1),
            output_shapes=[(THREADS,)],
            output_dtypes=[mx.float32],
        )
    return simulation.launches[0]


WORDS = mx.zeros(8 * THREADS, mx.uint32)
VECTOR = "const device uint4* q = reinterpret_cast<const device uint4*>(x);"
PAIR = "const device uint2* q = reinterpret_cast<const device uint2*>(x);"


@pytest.mark.parametrize(
    ("body", "a_thread"),
    [
        ("out[i] = 1.0f;", 0),
        ("out[i] = float(x[i]);", 1),
        ("out[i] = float(x[i] + x[i]);", 2),
        ("out[i] = 0.0f; for (int k = 0; k < 5; k++) { out[i] += float(x[i + k]); }", 10),
        (f"{VECTOR} const uint4 v = q[i]; out[i] = float(v.x + v.y + v.z + v.w);", 1),
        (f"{VECTOR} uint4 v; v = q[i]; uint4 w = v; out[i] = float(w.x + w.w);", 1),
        (f"{VECTOR} uint4 v[2]; v[0] = q[2 * i]; v[1] = q[2 * i + 1]; out[i] = float(v[1].x);", 2),
        (f"{VECTOR} out[i] = float(q[i].x + q[i].y);", 2),
        (f"{PAIR} const uint2 v = q[i]; out[i] = float(v.x + v.y);", 1),
        ("threadgroup uint s[64]; s[t] = x[i]; out[i] = float(s[t] + s[t]);", 1),
        ("float p[4]; for (int k = 0; k < 4; k++) { p[k] = 1.0f; } out[i] = p[0] + p[3];", 0),
        ("out[i] = float(x_shape[0]);", 0),  # constant memory
    ],
)
def test_loads_are_those_that_the_text_has(body: str, a_thread: int) -> None:
    launch = launched(body, WORDS)
    assert (launch.device_loads, launch.lane_loads) == (THREADS * a_thread, a_thread)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_narrow_floats_are_one_load_each(dtype: mx.Dtype) -> None:
    body = "const T kept = x[i]; T other; other = x[i + 1]; out[i] = float(kept) + float(other);"
    launch = launched(f"{body} out[i] = static_cast<float>(x[i + 2]);", mx.zeros(99, dtype))
    assert launch.device_loads == THREADS * 3


def test_a_short_input_is_not_in_device_memory() -> None:
    assert launched("out[i] = x[t % 7];", mx.zeros(7)).device_loads == 0
    assert launched("out[i] = x[t % 7];", mx.zeros(8)).device_loads == THREADS


def test_the_thread_with_most_loads() -> None:
    body = "out[i] = 0.0f; for (uint k = 0; k < t; k++) { out[i] = float(x[k]); }"
    launch = launched(body, WORDS)
    assert launch.device_loads == THREADS * (THREADS - 1) // 2
    assert launch.lane_loads == THREADS - 1


def test_products_of_matrices_once_a_simdgroup() -> None:
    """Three by every simdgroup, one by the first alone; sums and votes are none."""
    body = """
        simdgroup_float8x8 a = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
        simdgroup_float8x8 c = a;
        for (int k = 0; k < 2; k++) {
          simdgroup_multiply_accumulate(c, a, a, c);
        }
        simdgroup_multiply(c, a, a);
        if (simdgroup_index_in_threadgroup == 0) {
          simdgroup_multiply_accumulate(c, a, a, c);
        }
        out[i] = simd_sum(c.thread_elements()[0]);
    """
    launch = launched(body, WORDS, header=MATRIX)
    assert (launch.matrix_products, launch.simdgroup_products) == (3 * SIMDGROUPS + 1, 4)
    assert launch.collectives == 4 * SIMDGROUPS + 1


def test_nothing_is_counted_unless_asked() -> None:
    launch = launched("out[i] = float(x[i]);", WORDS, count_loads=False)
    assert (launch.device_loads, launch.lane_loads) == (None, None)


@pytest.mark.slow
def test_products_of_experts_for_each_load() -> None:
    """64 in a step of 64 values, against 8 words, 16 scales and biases and 16 bytes of a row."""
    found = macs_per_device_load()
    assert found == {name: pytest.approx(64 / 25, rel=0.01) for name in ("moe_gate_up", "moe_down")}
