"""Checks a kernel's text with Metal's address spaces as clang's own: compiled, never run.

Finds unqualified pointers, a pointer passed on into another space, writes to `constant`, std::.
It does not find C-style casts that drop the space (`subset_errors` does) nor a float assigned to a
bfloat (a run does).
"""

import re

from .compiler import complaints, mlx_headers
from .lower import INSTANTIATION, VARIABLE, closing, without_comments

VECTOR = re.compile(r"\b(?:float|half|u?int|u?short|u?char|u?long)[234]\(")


def address_space_errors(text: str) -> str:
    """What clang says of a generated text (`Launch.text`); empty where it finds nothing."""
    lines = without_comments(text)
    # Threadgroup variables need storage, and static ones alone may have an address space.
    lines = VARIABLE.sub(lambda found: f"static {found.group()}", lines)
    lines = INSTANTIATION.sub(r"auto* instantiated = &\1;", lines)
    return complaints(f"""#include <metal_stdlib>
{mlx_utilities()}
#line 1 "kernel"
{with_braces(lines)}
""")


def mlx_utilities() -> str:
    """What MLX puts before a kernel; its array parameters, which clang refuses, as pointers."""
    text = (mlx_headers() / "mlx/backend/metal/kernels/utils.h").read_text(encoding="utf-8")
    return re.sub(r"(constant const \w+) (\w+)\[\d+\]", r"\1* \2", text)


def with_braces(text: str) -> str:
    """`float4(a, b, c, d)` as `float4{a, b, c, d}`, as clang's own vectors want it."""
    while found := VECTOR.search(text):
        opening = found.end() - 1
        end = closing(text, opening)
        text = f"{text[:opening]}{{{text[opening + 1 : end]}}}{text[end + 1 :]}"
    return text
