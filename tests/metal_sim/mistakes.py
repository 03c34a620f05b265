"""Small kernels with one mistake each, and their right twins, for tests and sanitizers.

Run as a program it prints, as JSON, what is raised for each: null where nothing is.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from one_kernel import MATRIX, run_body

from metal_sim import SimError

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
SIMDGROUP_BARRIER = "simdgroup_barrier(mem_flags::mem_threadgroup);"

EXCHANGE = """
    threadgroup float s[64];
    s[t] = x[i];
    {sync}
    out[i] = s[{neighbour}];
"""
FAR = "(t + 33) % 64"  # in the other simdgroup
NEAR = "t ^ 1"  # in the same simdgroup
IN_A_LOOP = f"""
    threadgroup float s[64];
    for (int k = 0; k < 3; k++) {{{{
        s[t] = x[i];
        {BARRIER}
        out[i] = s[{FAR}];
        {{sync}}
    }}}}
"""


@dataclass(frozen=True)
class Pair:
    """Bodies for `run_body`: the mistake, the same without it, and their options."""

    wrong: str
    right: str
    options: dict[str, Any]


def exchange(wrong: str, right: str, neighbour: str) -> Pair:
    """One threadgroup writes threadgroup memory and reads another element of it."""
    bodies = [EXCHANGE.format(sync=sync, neighbour=neighbour) for sync in (wrong, right)]
    return Pair(bodies[0], bodies[1], {})


# Seen by the address sanitizer: a buffer and a threadgroup array, to the byte.
OUT_OF_BOUNDS = {
    "read past a buffer": Pair("out[i] = x[i + 1];", "out[i] = x[i];", {"threads": 61}),
    "write past a buffer": Pair("out[i + 1] = x[i];", "out[i] = x[i];", {"threads": 61}),
    "threadgroup array too short": Pair(
        EXCHANGE.format(sync=BARRIER, neighbour=FAR).replace("s[64]", "s[63]"),
        EXCHANGE.format(sync=BARRIER, neighbour=FAR),
        {},
    ),
    "matrix past the end": Pair(
        "simdgroup_float8x8 a; simdgroup_load(a, x + 1, 8); simdgroup_store(a, out, 8);",
        "simdgroup_float8x8 a; simdgroup_load(a, x, 8); simdgroup_store(a, out, 8);",
        {"threads": 32, "threadgroup": 32, "size": 64, "values": 64, "header": MATRIX},
    ),
}

# Seen by the thread sanitizer. Schedules see those of the first three where another order of the
# threads gives another result.
RACES = {
    "no barrier": exchange("", BARRIER, FAR),
    "lockstep within a simdgroup": exchange("", SIMDGROUP_BARRIER, NEAR),
    "simdgroup_barrier between simdgroups": exchange(SIMDGROUP_BARRIER, BARRIER, FAR),
    "barrier without mem_flags": exchange(
        "threadgroup_barrier(mem_flags::mem_none);", BARRIER, FAR
    ),
    "simdgroup operation as a barrier": exchange("(void)simd_sum(1.0f);", SIMDGROUP_BARRIER, NEAR),
    "two threadgroups write one element": Pair(
        "out[t] = x[t] + i;", "out[i] = x[t] + i;", {"threads": 128}
    ),
    "two threadgroups write one element after barriers": Pair(
        EXCHANGE.format(sync=BARRIER, neighbour=FAR).replace("out[i]", "out[t]"),
        EXCHANGE.format(sync=BARRIER, neighbour=FAR),
        {"threads": 128},
    ),
    "write after read": Pair(IN_A_LOOP.format(sync=""), IN_A_LOOP.format(sync=BARRIER), {}),
    "threads count without an atomic": Pair(
        "out[0] += 1;",
        "atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed);",
        {"atomic": True},
    ),
}


def outcomes(pairs: dict[str, Pair]) -> dict[str, list[str | None]]:
    """The errors of the wrong and the right one of each pair."""
    return {
        name: [
            error_of(pair.wrong, pair.options, right=False),
            error_of(pair.right, pair.options, right=True),
        ]
        for name, pair in pairs.items()
    }


def error_of(body: str, options: dict[str, Any], *, right: bool) -> str | None:
    """What running it raises, as text."""
    options = dict(options)
    atomic = options.pop("atomic", False) and right
    if values := options.pop("values", None):
        options["x"] = mx.arange(values).astype(mx.float32)
    try:
        run_body(body, atomic_outputs=atomic, init_value=0, **options)
    except SimError as error:
        return str(error)
    return None


if __name__ == "__main__":
    print(json.dumps(outcomes({"address": OUT_OF_BOUNDS, "thread": RACES}[sys.argv[1]])))
