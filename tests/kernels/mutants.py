"""Kernels with one fault each: what a fault is, and whether it shows.

A fault shows where a run raises, or gives other bits than the kernel without it, in any order of
threads. Some can be seen only by a sanitizer, and say so: those run in a process of its own.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import mlx.core as mx
import numpy as np
from metal_sim import ORDERS, SimError, simulated
from numpy.typing import NDArray

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
Run = Callable[[], Iterable[mx.array]]


@dataclass(frozen=True)
class Fault:
    """The `number`th `old` in the text of a kernel becomes `new`."""

    old: str
    new: str
    number: int = 1
    sanitizer: str | None = None  # the one that notices, where a plain run need not

    def __str__(self) -> str:
        old = "barrier" if self.old == BARRIER else self.old
        new = "nothing" if self.new == ";" else self.new
        return f"{old} ({self.number}) -> {new}"


Faults = tuple[Fault, ...]


def fault(old: str, new: str, *numbers: int, sanitizer: str | None = None) -> Faults:
    """`old` becomes `new`, once at each of its `numbers`; at its first without any."""
    return tuple(Fault(old, new, number, sanitizer) for number in numbers or (1,))


def barriers(count: int) -> Faults:
    """Each of the kernel's barriers removed."""
    return fault(BARRIER, ";", *range(1, count + 1))


def shortened(**sizes: str) -> Faults:
    """Each of its threadgroup arrays one element shorter."""
    return tuple(
        Fault(f"{name}[{size}];", f"{name}[{size} - 1];", sanitizer="address")
        for name, size in sizes.items()
    )


def faults(*rows: Faults) -> Faults:
    """The rows of a table as one."""
    return tuple(chain.from_iterable(rows))


@dataclass(frozen=True)
class Kernel:
    """A kernel, inputs on which its faults show, and the faults, also those in its headers."""

    name: str
    runs: Callable[[], Iterable[Run]]
    faults: Faults
    headers: tuple[str, ...] = ()

    def mutants(self, sanitizer: str | None) -> "list[Mutant]":
        """The mutants that need this sanitizer; None: those that need none."""
        return [Mutant(self, fault) for fault in self.faults if fault.sanitizer == sanitizer]

    def control(self) -> "Mutant":
        """No fault at all, which must not be noticed."""
        return Mutant(self, Fault("[[kernel]]", "[[kernel]]"))


@dataclass(frozen=True)
class Mutant:
    """A kernel with one of its faults."""

    kernel: Kernel
    fault: Fault

    def __str__(self) -> str:
        return f"{self.kernel.name}: {self.fault}"

    def of(self, text: str) -> str:
        """The text of a kernel, with the fault if it is this one's."""
        if f"custom_kernel_{self.kernel.name}_" not in text:
            return text
        old, number = self.fault.old, self.fault.number
        parts = text.split(old)
        assert len(parts) > number, f"{self}: not in the text"
        return f"{old.join(parts[:number])}{self.fault.new}{old.join(parts[number:])}"

    def noticed(self) -> str | None:
        """The sign that gives the fault away; None: there is no sign."""
        for run in self.kernel.runs():
            expected = right(run)
            for order in ORDERS:
                try:
                    got = bits(run, order, self.of)
                except SimError as error:
                    return str(error).splitlines()[0]
                if not all(map(np.array_equal, got, expected)):
                    return f"{order}: other bits"
        return None


@cache
def right(run: Run) -> Sequence[NDArray[Any]]:
    """The bits that the kernels give without a fault."""
    return bits(run, "forward", None)


def bits(run: Run, order: str, mutate: Callable[[str], str] | None) -> Sequence[NDArray[Any]]:
    with simulated(order=order, mutate=mutate):  # type: ignore[arg-type]
        return [np.array(array.view(mx.uint8)) for array in run()]


def tried(kernels: Iterable[Kernel], sanitizer: str) -> list[Mutant]:
    """The mutants that need this sanitizer."""
    return [mutant for kernel in kernels for mutant in kernel.mutants(sanitizer)]


def controls(kernels: Iterable[Kernel], sanitizer: str) -> list[Mutant]:
    """A control for each of their kernels."""
    return [kernel.control() for kernel in kernels if kernel.mutants(sanitizer)]


def try_in_children(mutants: Iterable[Mutant]) -> None:
    """One line a mutant, each tried in a process of its own, which its fault may end.

    MLX starts no thread before they part: inputs are made by each.
    """
    for mutant in mutants:
        child = os.fork()
        if child == 0:
            print(f"{mutant} | {mutant.noticed()}", flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(f"{mutant} | ended with status {status}", flush=True)
