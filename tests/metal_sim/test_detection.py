"""Each mistake is found, and its right twin is not."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mistakes import BARRIER, OUT_OF_BOUNDS, RACES, SIMDGROUP_BARRIER, error_of
from one_kernel import MATRIX, run_body
from tiled import tiled_product

from metal_sim import ORDERS, SimError, address_space_errors, run_sanitized, simulated


def raises(body: str, message: str, **options: Any) -> None:
    """Running `body` raises a SimError with `message`, of the kernel it names."""
    with pytest.raises(SimError, match=message) as caught:
        run_body(body, **options)
    assert str(caught.value).startswith("tested: ")


def schedules_agree(body: str, **options: Any) -> bool:
    """Whether all orders of the threads give the same result, bit by bit."""
    first, *others = (run_body(body, order=order, seed=3, **options) for order in ORDERS)
    return all(first.tobytes() == other.tobytes() for other in others)


# ---- by the order of threads ----


@pytest.mark.parametrize("name", list(RACES)[:3])
def test_schedules_disagree_where_a_barrier_is_missing(name: str) -> None:
    assert not schedules_agree(RACES[name].wrong)
    assert schedules_agree(RACES[name].right)


def test_schedules_disagree_where_threadgroups_write_one_element() -> None:
    pair = RACES["two threadgroups write one element"]
    assert not schedules_agree(pair.wrong, **pair.options)
    assert schedules_agree(pair.right, **pair.options)


def test_orders() -> None:
    """The last element counts the threads that have come; each notes its number."""
    body = """
        const uint n = atomic_fetch_add_explicit(&out[128], 1u, memory_order_relaxed);
        atomic_store_explicit(&out[i], n, memory_order_relaxed);
    """
    options: dict[str, Any] = {"threads": 128, "size": 129, "dtype": mx.uint32, "init_value": 0}
    forward, reverse, random = (
        run_body(body, order=order, atomic_outputs=True, **options)[:128] for order in ORDERS
    )
    np.testing.assert_array_equal(forward, np.arange(128))
    np.testing.assert_array_equal(reverse, np.arange(128)[::-1])
    np.testing.assert_array_equal(np.sort(random), np.arange(128))
    assert len(set(np.diff(random))) > 10


def test_random_schedules_depend_on_their_seed_alone() -> None:
    body = RACES["no barrier"].wrong
    one, same, other = (run_body(body, order="random", seed=seed) for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_uninitialised_threadgroup_memory_is_nan() -> None:
    wrong = f"threadgroup float s[64]; if (t > 3) {{ s[t] = 1; }} {BARRIER} out[i] = s[t];"
    right = wrong.replace("if (t > 3)", "")
    np.testing.assert_array_equal(np.isnan(run_body(wrong)), np.arange(64) < 4)
    assert not np.isnan(run_body(right)).any()


def test_threadgroup_memory_of_one_threadgroup_is_not_the_nexts() -> None:
    body = f"""
        threadgroup int s[1];
        if (i == 0) {{ s[0] = 5; }}
        {BARRIER}
        out[i] = s[0];
    """
    out = run_body(body, threads=128, dtype=mx.int32)
    np.testing.assert_array_equal(out, [5] * 64 + [-1] * 64)


def test_a_shuffle_from_a_lane_that_is_not_there_is_nan() -> None:
    np.testing.assert_array_equal(
        np.isnan(run_body("out[i] = simd_shuffle(1.0f, (i % 32) * 2);")), np.arange(64) % 32 > 15
    )
    body = "if (i % 32 > 7) { return; } out[i] = simd_shuffle(1.0f, 8 - METAL);"
    assert np.isnan(run_body(body.replace("METAL", "0"))[:8]).all()
    assert not np.isnan(run_body(body.replace("METAL", "1"))[:8]).any()


@pytest.mark.parametrize("barrier", [0, 1])
def test_a_tiled_product_without_one_of_its_barriers(barrier: int) -> None:
    """Orders disagree: this is how a mutation test looks."""

    def without(text: str) -> str:
        parts = text.split("threadgroup_barrier(mem_flags::mem_threadgroup);")
        parts[barrier : barrier + 2] = ["".join(parts[barrier : barrier + 2])]
        return "threadgroup_barrier(mem_flags::mem_threadgroup);".join(parts)

    normal = np.random.default_rng(1).standard_normal
    a, b = (mx.array(normal(shape).astype(np.float32)) for shape in ((32, 48), (24, 48)))
    outs = [np.array(tiled_product(a, b, order=order, mutate=without)) for order in ORDERS]
    assert any(out.tobytes() != outs[0].tobytes() for out in outs)


# ---- by the rendezvous ----


def test_a_thread_that_returns_before_a_barrier() -> None:
    body = f"if (t == 5) {{ return; }}\n{BARRIER}\nout[i] = 1;"
    raises(body, r"threadgroup_barrier at tested:12 reached by 63 of 64 .*\(threadgroup 0, 0, 0\)")
    raises(body.replace("t == 5", "i == 69"), r"\(threadgroup 1, 0, 0\)", threads=128)
    run_body(body.replace("t == 5", "t > 63"))


def test_threads_at_different_barriers() -> None:
    raises(
        f"if (t < 32) {{\n{BARRIER}\n}} else {{\n{BARRIER}\n}} out[i] = 1;",
        "divergent threadgroup_barrier: thread 0 is at tested:12, thread 32 at tested:14",
    )
    raises(
        f"if (t % 2) {{\n{BARRIER}\n}} else {{\n{BARRIER}\n}} out[i] = 1;",
        "divergent threadgroup_barrier",
    )


def test_a_barrier_in_divergent_control_flow() -> None:
    body = f"out[i] = 1;\nif (t % 32 < 16) {{ {SIMDGROUP_BARRIER} }}\n{BARRIER}"
    raises(body, "divergent simdgroup_barrier: lane 0 is at tested:12, lane 16 at the threadgroup_")
    run_body(body.replace("t % 32 < 16", "t < 32"))


def test_a_simdgroup_operation_in_divergent_control_flow() -> None:
    body = "float v = 0;\nif (t % 32 < 16) { v = simd_sum(1.0f); }\nout[i] = simd_max(v);"
    raises(body, "divergent simdgroup operation: lane 0 is at tested:12, lane 16 at .* tested:13")
    run_body(body.replace("t % 32 < 16", "t < 32"))


def test_two_operations_on_one_line_are_two() -> None:
    body = "out[i] = t % 2 ? simd_sum(1.0f) : simd_sum(2.0f);"
    raises(body, "divergent simdgroup operation")
    run_body(body.replace("t % 2", "t < 32"))


def test_a_matrix_operation_needs_all_lanes() -> None:
    body = """
        simdgroup_float8x8 a(1.0f), b(1.0f);
        if (t == 7) { return; }
        simdgroup_multiply(a, a, b);
        simdgroup_store(a, out, 8);
    """
    raises(body, "matrix operation at tested:15: lane 7 has returned", header=MATRIX)
    np.testing.assert_array_equal(run_body(body.replace("t == 7", "t > 31"), header=MATRIX), 8)
    whole = body.replace("t == 7", "t > 99")
    raises(whole, "of 16 threads: it needs 32", header=MATRIX, threads=48, size=64)


@pytest.mark.parametrize("different", ["x + t", "x, 8 + t % 2", "x + (t < 3 ? 8 : 0), 8"])
def test_a_matrix_is_loaded_from_one_place(different: str) -> None:
    body = f"""
        simdgroup_float8x8 a, b(1.0f);
        simdgroup_load(a, {different});
        simdgroup_multiply(a, a, b);
        if (t < 32) {{ simdgroup_store(a, out, 8); }}
    """
    options: dict[str, Any] = {"x": mx.zeros(1024), "header": MATRIX}
    raises(body, "simdgroup_load or simdgroup_store at tested:14.*differs between lanes", **options)
    run_body(body.replace(different, "x"), **options)


def test_a_store_by_some_lanes_only() -> None:
    body = "simdgroup_float8x8 a(1.0f); if (t < 16) { simdgroup_store(a, out, 8); }"
    raises(body, "simdgroup_store at tested:12.*differs between lanes", header=MATRIX)
    run_body(body.replace("16", "32"), header=MATRIX)


# ---- by memory ----


@pytest.mark.parametrize("wrong", ["out[i] = x[i + 16];", "out[i + 16] = x[i];"])
def test_an_access_past_a_buffer_faults(wrong: str) -> None:
    """Within 16 bytes only the address sanitizer sees it."""
    raises(wrong, "access 0 bytes past the end of (x|out) by thread 48.*threadgroup 0, 0, 0")
    run_body(wrong.replace(" + 16", ""))


def test_an_access_far_outside_faults() -> None:
    raises("out[i] = x[int(i) - 5000];", "access 20000 bytes before x by thread 0")
    raises("out[i] = x[size_t(i) << 40];", "access far from any buffer by thread 1")


def test_too_much_private_memory() -> None:
    body = "float v[40000]; for (int k = 0; k < 40000; k++) { v[k] = k; } out[i] = v[i * 9];"
    body = body.replace("float v", "volatile float v")
    raises(body, "private memory overflow", stack_bytes=65536)
    run_body(body)


def test_division_by_zero() -> None:
    raises("out[i] = 5 / (int(x[i]) - 3);", "division by zero by thread 3")


@pytest.mark.parametrize(("elements", "fits"), [(8192, True), (8193, False)])
def test_threadgroup_memory_is_limited(elements: int, fits: bool) -> None:
    body = f"threadgroup float s[{elements}]; s[t] = x[i]; out[i] = s[t];"
    if fits:
        run_body(body)
    else:
        raises(body, "threadgroup memory: 32784 bytes, the limit is 32768")


def test_after_an_error_the_next_kernel_runs() -> None:
    with pytest.raises(SimError):
        run_body(f"if (t == 5) {{ return; }} {BARRIER} out[i] = 1;")
    np.testing.assert_array_equal(run_body("out[i] = simd_sum(1.0f);"), 32)


# ---- by the compiler ----


@pytest.mark.parametrize("narrow", ["T v = x[i];", "T v = 1.0f;", "T v; v = x[i] * 2.0f;"])
def test_float_does_not_become_bfloat_by_itself(narrow: str) -> None:
    bfloat: dict[str, Any] = {"dtype": mx.bfloat16, "template": [("T", mx.bfloat16)]}
    raises(narrow + " out[i] = v;", "does not compile", **bfloat)
    right = narrow.replace("T v;", "T v = T(0.0f);").replace("= x[i]", "= T(x[i])")
    right = right.replace("= 1.0f", "= T(1.0f)").replace("T(x[i]) * 2.0f", "T(x[i] * 2.0f)")
    run_body(right + " out[i] = v;", **bfloat)


@pytest.mark.parametrize(
    "call", ["metal::exp(v)", "simd_sum(v)", "simd_shuffle(v, 1)", "metal::precise::tanh(v)"]
)
def test_bfloat_has_no_functions(call: str) -> None:
    raises(f"bfloat v = bfloat(x[i]); out[i] = {call};", "does not compile")
    run_body(f"bfloat v = bfloat(x[i]); out[i] = {call.replace('v', 'float(v)')};")


@pytest.mark.parametrize(
    "wrong",
    [
        "double v = 1;",
        "x[0] = 1;",
        "int n = t; float v[n];",
        "float v; out[i] = v;",
        "threadgroup int s = 1;",
    ],
)
def test_text_that_is_not_metal(wrong: str) -> None:
    raises(wrong, "tested:11")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (
            "float first(float* p) { return p[0]; }",
            "float first(const device float* p) { return p[0]; }",
        ),
        (
            "float first(threadgroup float* p) { return p[0]; }",
            "float first(device const float* p) { return p[0]; }",
        ),
        (
            "float first(const constant float* p) { return p[0]; }",
            "float first(const device float* p) { return p[0]; }",
        ),
    ],
)
def test_address_spaces(wrong: str, right: str) -> None:
    for header, clean in ((wrong, False), (right, True)):
        text = text_of("out[i] = first(x);", header)
        assert (address_space_errors(text) == "") is clean, text


def test_address_spaces_of_threadgroup_memory_and_locals() -> None:
    body = f"threadgroup float s[64]; s[t] = 1; {BARRIER} SPACE float* p = s; out[i] = p[0];"
    assert address_space_errors(text_of(body.replace("SPACE", "threadgroup"))) == ""
    assert "threadgroup" in address_space_errors(text_of(body.replace("SPACE", "device")))
    assert address_space_errors(text_of(body.replace("SPACE", ""))) != ""


def text_of(body: str, header: str = "") -> str:
    """The text that MLX generates for a body, which need not compile."""
    texts: list[str] = []

    def keep(text: str) -> str:
        texts.append(text)
        raise SimError("only the text is wanted")

    with pytest.raises(SimError):
        run_body(body, header=header, mutate=keep)
    return texts[0]


@pytest.mark.parametrize(
    ("grid", "threadgroup", "message"),
    [((64, 0, 1), (64, 1, 1), "positive"), ((2048, 1, 1), (1025, 1, 1), "1024 at most")],
)
def test_sizes_that_metal_refuses(grid: Any, threadgroup: Any, message: str) -> None:
    with simulated(), pytest.raises(SimError, match=message):
        mx.fast.metal_kernel(
            name="sizes", input_names=["x"], output_names=["out"], source="out[0] = x[0];"
        )(
            inputs=[mx.zeros(8)],
            grid=grid,
            threadgroup=threadgroup,
            output_shapes=[(1,)],
            output_dtypes=[mx.float32],
        )


def test_mutations_change_the_text_before_it_is_compiled() -> None:
    body = f"threadgroup float s[64]; s[t] = x[i]; {BARRIER} out[i] = s[(t + 33) % 64];"
    raises(body, "tested", mutate=lambda text: text.replace(BARRIER, "nonsense;"))
    assert schedules_agree(body)
    assert not schedules_agree(body, mutate=lambda text: text.replace(BARRIER, ""))


# ---- by sanitizers ----


@pytest.fixture(scope="module")
def under_address() -> dict[str, list[str | None]]:
    """What the address sanitizer says of each pair of OUT_OF_BOUNDS."""
    return outcomes_under("address")


@pytest.fixture(scope="module")
def under_thread() -> dict[str, list[str | None]]:
    """What the thread sanitizer says of each pair of RACES."""
    return outcomes_under("thread")


def outcomes_under(sanitizer: Any) -> dict[str, list[str | None]]:
    done = run_sanitized(sanitizer, str(Path(__file__).with_name("mistakes.py")), sanitizer)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[str | None]] = json.loads(done.stdout.splitlines()[0])
    return found


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_address_sanitizer(name: str, under_address: dict[str, list[str | None]]) -> None:
    wrong, right = under_address[name]
    assert right is None
    assert wrong is not None
    assert "tested:" in wrong
    assert "threadgroup 0, 0, 0" in wrong
    assert "0 bytes after" in wrong or "out of bounds" in wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_thread_sanitizer(name: str, under_thread: dict[str, list[str | None]]) -> None:
    wrong, right = under_thread[name]
    assert right is None
    assert wrong is not None
    assert "tested:" in wrong
    assert "threadgroup" in wrong


@pytest.mark.parametrize("name", list(OUT_OF_BOUNDS)[:3])
def test_plain_runs_do_not_see_the_last_bytes(name: str) -> None:
    """Which is why the sanitizer is needed; should it change, the texts that say so are wrong."""
    pair = OUT_OF_BOUNDS[name]
    assert error_of(pair.wrong, pair.options, right=False) is None
