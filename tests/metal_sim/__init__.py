"""Runs Metal kernels on a CPU, to test them where there is no GPU.

    with simulated(order="reverse") as simulation:
        outputs = function_that_launches_metal_kernels()
    assert [launch.name for launch in simulation.launches] == ["moe_plan", "moe_gate_up"]

Inside `simulated`, `mx.fast.metal_kernel` makes kernels that run at once when they are called:

1. capture: MLX itself generates the Metal text of the call, signature and template included. It
   does so on any machine when a function that calls the kernel is exported.
2. lower: threadgroup variables get storage that threads share; nothing else in the text changes.
3. compiler: clang compiles it as C++ against runtime/metal, Metal's standard library in C++.
4. run: each GPU thread is a fiber (runtime/scheduler). It runs until a barrier or a simdgroup
   operation, where it waits for the others; who comes when is the schedule's choice.

What is wrong raises SimError, with the kernel, the line of the generated text and the threadgroup.
Three ways to look at a kernel see different mistakes:

- a run: divergent barriers and simdgroup operations, accesses more than 15 bytes outside a buffer,
  more than 32 KB of threadgroup memory. Values nobody wrote are NaN, or -1 in integers. Runs in
  different orders disagree where a barrier is missing or lockstep was assumed.
- `run_sanitized`: every access outside a buffer or an array (address), every data race (thread).
- the text alone: `address_space_errors` and `subset_errors`.

A launch records what it did: barriers, matrix products, and with `simulated(count_loads=True)` how
often it read device memory. Counted are the loads that the text has, in a build that merges none: a
vector is one, a compiler may need fewer. Atomic reads, and a kernel's own structs, are not counted.

A right result here is no proof for a Mac: Apple's compiler, registers, speed, transcendental
functions to the last bit and the order of sums in matrix products are not simulated. Nor is which
memory a barrier orders: any mem_flags but mem_none order all of it. A kernel that waits for another
thread in a loop never ends.
"""

from .address_spaces import address_space_errors
from .errors import NoCompilerError, SimError
from .install import simulated
from .kernel import Launch, Simulation
from .run import ORDERS
from .sanitized import run_sanitized
from .subset import subset_errors

__all__ = [
    "ORDERS",
    "Launch",
    "NoCompilerError",
    "SimError",
    "Simulation",
    "address_space_errors",
    "run_sanitized",
    "simulated",
    "subset_errors",
]
