"""The lint of loops over private arrays: what has to be unrolled, and what has not."""

from typing import Any

import pytest

from metal_sim import subset_errors

UNROLL = "#pragma clang loop unroll(full)"
LOOP = "for (int i = 0; i < N; i++)"

LACKING = [
    ("a", f"float a[N];\n{LOOP} {{ a[i] = 0.0f; }}"),
    ("a", f"float a[N];\n{LOOP} a[i] = 0.0f;"),
    ("a", f"float a[2 * N] = {{0.0f}};\n{LOOP} {{ sum += a[2 * i + 1]; }}"),
    ("b", f"int n = 3, a[4], b[N];\n{LOOP} {{ b[i] = n; }}"),
    ("a", f"metal::vec<float, 4> a[N];\n{LOOP} {{ a[i] = x; }}"),
    ("a", f"float a[N][2];\n{LOOP} {{ a[1][i] = x; }}"),
    ("a", f"const float a[N] = {{1.0f, 2.0f}};\n{LOOP} {{ x += a[i]; }}"),
    ("a", f"inline void f(thread float* a) {{ int n;\n{LOOP} {{ a[i] = x; }} }}"),
    (
        "a",
        f"inline void f(int n, const thread float* a, int m) {{ int n;\n{LOOP} {{ x = a[i]; }} }}",
    ),
    ("a", f"inline void f(thread float (&a)[N]) {{ int n;\n{LOOP} {{ a[i] = x; }} }}"),
    ("a", f"struct S {{ float a[N]; void f() {{ int n;\n{LOOP} {{ a[i] = x; }} }} }};"),
    ("a", f"float a[N];\n{LOOP} {{ add(a + 2 * i, x); }}"),
    ("a", f"float a[N];\n{LOOP} {{ const int at = 2 * i; const int j = at + 1; x += a[j]; }}"),
    ("a", "float a[N]; int k = 0;\nfor (int i = 0; i < N; i++) { a[k] = x; k += 2; }"),
    ("a", "float a[N]; int k = 0;\nwhile (k < N) { a[k++] = x; }"),
    ("a", "float a[N]; int k = 0;\ndo { a[k] = x; k++; } while (k < N);"),
    ("a", f"float a[N]; int k = 0;\n#pragma unroll\n{LOOP} {{ a[i] = x; }}"),
]
UNBOUNDED = [
    "for (int i = 0; i < n; i++) { a[i] = x; }",
    "for (int i = lane; i < N; i += 32) { a[i] = x; }",
    "for (int i = 0; i < N; i += step) { a[i] = x; }",
    "for (int i = 0; i < count(n); i++) { a[i] = x; }",
]
RIGHT = [
    f"float a[N];\n{UNROLL}\n{LOOP} {{ a[i] = 0.0f; }}",
    f"float a[N];\n{UNROLL}\n\n    // why\n{LOOP} {{ a[i] = 0.0f; }}",
    f"float a[N];\n{UNROLL}\nfor (int i = 0; i < 2 * size_of<T, N>(); i++) {{ a[i] = 0.0f; }}",
    f"float a[N];\n{UNROLL}\nfor (uint i = static_cast<uint>(N); i < 8u; i++) {{ a[i] = x; }}",
    f"float a[9];\n{UNROLL}\n{LOOP} {{\n{UNROLL}\nfor (int j = i; j < 3; j++) {{ a[j] = i; }} }}",
    f"float a[4];\n{LOOP} {{ a[0] = x[i]; a[1] += a[n]; }}",
    f"float a[4];\n{LOOP} {{\n{UNROLL}\nfor (int j = 0; j < 4; j++) {{ a[j] += x[i]; }} }}",
    f"threadgroup float a[N];\n{LOOP} {{ a[i] = x; }}",
    f"constant float a[N] = {{1.0f}};\n{LOOP} {{ x += a[i]; }}",
    f"constant constexpr const float a[N] = {{1.0f}};\n{LOOP} {{ x += a[i]; }}",
    f"inline void f(const device float* a) {{\n{LOOP} {{ x += a[i]; }} }}",
    f"inline void f(threadgroup float* a, thread float& b) {{\n{LOOP} {{ x += a[i]; b += x; }} }}",
    f"inline void f(thread float* a) {{ a[0] = x; }}\n{LOOP} {{ a[i] = x; }}",
    f"{{ float a[4]; a[1] = x; }}\n{LOOP} {{ a[i] = x; }}",
    f"float a[N]; float sum = 0.0f;\n{LOOP} {{ sum += b.a[i] + ba[i] + y[i]; }}",
    f"// float a[N];\n{LOOP} {{ a[i] = x; }}",
    "float a[N];\nfor (int k = t; k < n; k += 32) { b[k] = a[0] + a[J]; }",
]


@pytest.mark.parametrize(("array", "text"), LACKING)
def test_loops_that_are_not_unrolled(array: str, text: str) -> None:
    lines = text.splitlines()
    (error,) = subset_errors(text)
    number = next(n for n, line in enumerate(lines, 1) if line.startswith(("for", "while", "do")))
    want = f"line {number}: the loop over the private array {array} lacks {UNROLL}: "
    assert error == want + lines[number - 1]


@pytest.mark.parametrize("loop", UNBOUNDED)
def test_loops_that_cannot_be_unrolled(loop: str) -> None:
    (error,) = subset_errors(f"float a[N];\n{UNROLL}\n{loop}")
    assert error == f"line 3: the loop over the private array a needs constant bounds: {loop}"


@pytest.mark.parametrize("text", RIGHT)
def test_loops_that_may_stay(text: str) -> None:
    assert subset_errors(text) == []


def test_every_loop_and_array_is_named() -> None:
    inner = "for (int j = 0; j < 2; j++) { a[2 * i + j] = b[i]; }"
    errors: list[Any] = subset_errors(f"float a[4], b[2];\n{LOOP} {{\n{inner}\n}}")
    found = [(error.split(":")[0], error.split("array ")[1].split()[0]) for error in errors]
    assert found == [("line 2", "a"), ("line 2", "b"), ("line 3", "a")]
