"""The lint of the text: each rule finds what it is for and leaves alone what is like it."""

import pytest

from metal_sim import subset_errors

CAST = "a cast to a pointer has to name its address space"
LITERAL = "write float literals with an f"

WRONG = [
    ("auto p = (const uint*)w;", CAST),
    ("return (half*)p;", CAST),
    ("f((float *)(p + 1))", CAST),
    ("auto p = (vec<half, 4>*)w;", CAST),
    ("static_cast<const uint*>(p)", CAST),
    ("reinterpret_cast<uint*>(p)", CAST),
    ("double x;", "Metal has no double"),
    ("float x = 1.0;", LITERAL),
    ("float x = 1e-5;", LITERAL),
    ("float x = .5 * y;", LITERAL),
    ("float x = 1.;", LITERAL),
    ("std::max(a, b)", "std:: does not exist in Metal"),
    ("auto f = [&](int i) { return i; };", "no lambdas"),
    ("call([] { return 1; });", "no lambdas"),
    ("static int k;", "no static variables or functions"),
    ("v.xy", "no swizzles: name one element"),
    ("v.rgb = w;", "no swizzles: name one element"),
    ("bfloat4 x;", "no vectors of bfloat"),
    ("bfloat16_t4 x;", "no vectors of bfloat"),
    ("vec<bfloat, 2> x;", "no vectors of bfloat"),
    ("vec<T, 4> x;", "no vectors of bfloat"),
    ("(*f)(x)", "no pointers to functions"),
    ("y = exp(x);", "say metal::, metal::precise:: or metal::fast::"),
    ("y = max(x, 1);", "say metal::, metal::precise:: or metal::fast::"),
    ("try { } catch (...) { }", "Metal does not have it"),
    ("long long x;", "Metal does not have it"),
]

RIGHT = [
    "auto p = (const device uint*)w;",
    "auto p = (device const half *) w;",
    "(threadgroup float*)p",
    "reinterpret_cast<const device uint*>(p)",
    "x = (a * b);",
    "x = (a) * (b);",
    "x = (n * 2) + 1;",
    "x = float(a * b) * (c);",
    "float x = 1.0f + 1e-5f + .5h + 0x1.8p3f;",
    "int x = 10 + 0xFF; uint y = 3u;",
    "a[1].x = v.y;",
    "p.max(3);",
    "a[i] = {1, 2};",
    "float x[2][2] = {{1.0f}};",
    "static_assert(N > 1); static_cast<int>(x);",
    "half4 h; vec<half, 4> g;",
    "metal::precise::exp(x) + metal::max(x, 1)",
    "[[max_total_threads_per_threadgroup(512)]]",
    "// double std::max(1.0) static",
    "/* auto f = [] { }; */",
    "simd_max(x); my_exp(x);",
    "for (int i = 0; i < n; i++) { if (a[i]) { b[i] = 1; } }",
]


@pytest.mark.parametrize(("text", "advice"), WRONG)
def test_what_is_outside(text: str, advice: str) -> None:
    assert subset_errors(f"\n{text}\n") == [f"line 2: {advice}: {text}"]


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_inside(text: str) -> None:
    assert subset_errors(text) == []


def test_every_finding_is_listed_in_order() -> None:
    text = "double a = 1.0;\nint b;\nstatic int c;"
    found = [error.split(":")[0] for error in subset_errors(text)]
    assert found == ["line 1", "line 1", "line 3"]
