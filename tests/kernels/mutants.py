"""Kernels with one fault each: what a fault is, and whether it shows.

A fault shows where a run raises, or gives other bits than the kernel without it, in any order of
threads. Some can be seen only by a sanitizer, and say so: those run in a process of its own.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from metal_sim import ORDERS, SimError, run_sanitized, simulated
from numpy.typing import NDArray

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
Run = Callable[[], Iterable[mx.array]]


@dataclass(frozen=True)
class Mutant:
    """A fault: the `number`th `old` in the text of the kernel becomes `new`."""

    kernel: str
    old: str
    new: str
    number: int = 1
    sanitizer: str | None = None  # the one that notices, where a plain run need not

    def __str__(self) -> str:
        old = "barrier" if self.old == BARRIER else self.old
        new = "nothing" if self.new == ";" else self.new
        return f"{self.kernel}: {old} ({self.number}) -> {new}"

    def of(self, text: str) -> str:
        """The text of a kernel, with the fault if it is this one."""
        if f"custom_kernel_{self.kernel}_" not in text:
            return text
        parts = text.split(self.old)
        assert len(parts) > self.number, f"{self}: not in the text"
        before, after = parts[: self.number], parts[self.number :]
        return f"{self.old.join(before)}{self.new}{self.old.join(after)}"


def barriers(kernel: str, count: int) -> list[Mutant]:
    """Each of the kernel's barriers removed."""
    return [Mutant(kernel, BARRIER, ";", number) for number in range(1, count + 1)]


def shortened(kernel: str, **sizes: str) -> list[Mutant]:
    """Each of its threadgroup arrays one element shorter."""
    return [
        Mutant(kernel, f"{name}[{size}];", f"{name}[{size} - 1];", sanitizer="address")
        for name, size in sizes.items()
    ]


@cache
def right(run: Run) -> Sequence[NDArray[Any]]:
    """The bits that the kernels give without a fault."""
    return bits(run, "forward", None)


def bits(run: Run, order: str, mutant: Mutant | None) -> Sequence[NDArray[Any]]:
    with simulated(order=order, mutate=mutant and mutant.of):  # type: ignore[arg-type]
        return [np.array(array.view(mx.uint8)) for array in run()]


def noticed(mutant: Mutant, runs: Iterable[Run]) -> str | None:
    """What gives the fault away; None: nothing does."""
    for run in runs:
        expected = right(run)
        for order in ORDERS:
            try:
                got = bits(run, order, mutant)
            except SimError as error:
                return str(error).splitlines()[0]
            if not all(map(np.array_equal, got, expected)):
                return f"{order}: other bits"
    return None


def try_all(
    mutants: Iterable[Mutant], runs: Mapping[str, Callable[[], Iterable[Run]]], sanitizer: str
) -> None:
    """Under `sanitizer`: one line a mutant that needs it, each in a process of its own.

    A fault may end its process. MLX starts no thread before they part: `runs` are made by each.
    """
    tried = [mutant for mutant in mutants if mutant.sanitizer == sanitizer]
    for mutant in [*tried, *controls(tried)]:
        child = os.fork()
        if child == 0:
            why = noticed(mutant, runs[mutant.kernel]())
            print(f"{mutant} | {why}", flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(f"{mutant} | ended with status {status}", flush=True)


def controls(mutants: Iterable[Mutant]) -> list[Mutant]:
    """No fault at all in each of their kernels, which must not be noticed."""
    same = "[[kernel]]"  # in the text of each
    return [Mutant(kernel, same, same) for kernel in sorted({m.kernel for m in mutants})]


def assert_noticed_by(sanitizer: Any, file: Path, mutants: Iterable[Mutant]) -> None:
    """Runs `file`, which calls try_all, under the sanitizer: every mutant must be noticed."""
    done = run_sanitized(sanitizer, str(file), sanitizer)
    lines = [line.split(" | ", 1) for line in done.stdout.splitlines() if " | " in line]
    found = dict(lines)
    tried = [mutant for mutant in mutants if mutant.sanitizer == sanitizer]
    for mutant in tried:
        assert str(mutant) in found, f"{mutant}: not tried; {done.stderr[-2000:]}"
        assert found[str(mutant)] != "None", f"{mutant}: nothing showed it"
    for control in controls(tried):
        assert found[str(control)] == "None", f"{control}: {found[str(control)]}"
