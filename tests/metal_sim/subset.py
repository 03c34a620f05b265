"""The part of Metal that the kernels keep to, as far as a look at their text can tell.

What it refuses is wrong in Metal, or compiles here and may not on a Mac, or means something else
there.
"""

import re
from dataclasses import dataclass

from .lower import line_of, without_comments
from .private_arrays import private_array_errors

SPACES = r"(?:device|constant|threadgroup|thread)"
TYPE = r"[\w:]+(?:\s*<[^<>()]*>)?"
MATH = (
    "abs|acos|asin|atan|atan2|ceil|clamp|copysign|cos|cosh|exp|exp2|fabs|floor|fma|fmax|fmin|fmod|"
    "isfinite|isinf|isnan|log|log10|log2|max|min|pow|rint|round|rsqrt|select|sin|sinh|sqrt|tan|tanh|"
    "trunc"
)


@dataclass(frozen=True)
class Rule:
    """A pattern that has no place in a kernel, and what to write instead."""

    pattern: re.Pattern[str]
    advice: str


def rule(pattern: str, advice: str) -> Rule:
    """A rule for text without comments."""
    return Rule(re.compile(pattern), advice)


RULES = (
    rule(
        rf"\(\s*(?!(?:[\w\s]*\b){SPACES}\b)(?:const\s+|volatile\s+)*{TYPE}\s*(?:const\s*)?\*+\s*\)\s*[\w&(*]",
        "a cast to a pointer has to name its address space",
    ),
    rule(
        rf"(?:static|reinterpret|const)_cast\s*<(?![^;>]*\b{SPACES}\b)[^;()]*\*\s*>",
        "a cast to a pointer has to name its address space",
    ),
    rule(r"\bdouble\b", "Metal has no double"),
    rule(
        r"(?<![\w.])(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|(?<![\w.])\d+[eE][+-]?\d+(?![\w.])",
        "write float literals with an f",
    ),
    rule(r"\bstd\s*::", "std:: does not exist in Metal"),
    rule(
        r"(?<![\w\])\[])\s*\[[^\[\]]*\]\s*(?:\([^()]*\)\s*)?(?:mutable\s*)?(?:->[^{;]*)?\{",
        "no lambdas",
    ),
    rule(r"\bstatic\b(?!_)", "no static variables or functions"),
    rule(r"\.\s*(?:[xyzw]{2,4}|[rgba]{2,4})\b(?!\s*\()", "no swizzles: name one element"),
    rule(r"\bbfloat(?:16_t)?[234]\b|\bvec\s*<\s*(?:bfloat\w*|T)\s*,", "no vectors of bfloat"),
    rule(r"\(\s*\*\s*\w+\s*\)\s*\(", "no pointers to functions"),
    rule(rf"(?<![\w:.])(?:{MATH})\s*\(", "say metal::, metal::precise:: or metal::fast::"),
    rule(
        r"\b(?:virtual|dynamic_cast|typeid|throw|try|catch|new|delete|goto|asm|thread_local|printf|"
        r"long\s+long|long\s+double|wchar_t)\b",
        "Metal does not have it",
    ),
)


def subset_errors(text: str) -> list[str]:
    """What is outside the subset in the text of a kernel: "line N: advice: the line"."""
    plain = without_comments(text)
    lines = text.splitlines()
    found = {
        (line_of(plain, match.end() - 1), rule.advice)
        for rule in RULES
        for match in rule.pattern.finditer(plain)
    } | {(line_of(plain, at), advice) for at, advice in private_array_errors(plain)}
    return [f"line {n}: {advice}: {lines[n - 1].strip()}" for n, advice in sorted(found)]
