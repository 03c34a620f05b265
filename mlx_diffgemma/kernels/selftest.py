"""Every kernel the package can ask for, compiled, compared with float64 and timed on this machine.

Without Metal the reference implementations alone are compared, on small shapes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any

import mlx.core as mx

from ..errors import one_line
from ..machine import device
from .check import Check, Deviation, Result, Tolerance, worst
from .classes import checks as classes
from .denoise import checks as denoise
from .experts import checks as experts
from .router import checks as router
from .soft_gather import checks as soft_gather
from .timing import in_turn


@dataclass(frozen=True)
class References:
    """The modules with the reference implementations that the families are held against."""

    experts: ModuleType  # model/experts.py
    denoise: ModuleType  # diffusion/sampler.py
    classes: ModuleType  # diffusion/classes.py
    soft_gather: ModuleType  # model/soft_gather.py

    def checks(self) -> Iterator[Check]:
        """Every check of every family."""
        yield from experts.checks(self.experts)
        yield from router.checks(self.experts)
        yield from denoise.checks(self.denoise)
        yield from classes.checks(self.classes, self.denoise)
        yield from soft_gather.checks(
            soft_gather.Given(self.soft_gather, self.denoise, self.classes)
        )


# Keys of `selftest --json`, which programs read, where a field has another name.
JSON_NAMES = {"reference_error": "twin_error", "reference_ms": "twin_ms"}


class Status(StrEnum):
    """The end of a check. Only WRONG and ERROR fail; SLOWER is right, and auto leaves it unused."""

    OK = "ok"
    SLOWER = "slower"
    WRONG = "wrong"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """The findings of one check; times are None without Metal, all numbers where it raised.

    error and tolerance: of the output furthest from float64 by its own tolerance, the kernel's or,
    without Metal, the reference implementation's; reason: of the tolerance; reference_error: the
    error of the reference implementation.
    """

    kernel: str
    instantiation: str
    size: str
    status: Status
    note: str | None = None
    output: str | None = None
    error: float | None = None
    tolerance: float | None = None
    reason: str | None = None
    reference_error: float | None = None
    kernel_ms: float | None = None
    reference_ms: float | None = None
    gigabytes_per_second: float | None = None
    teraflops: float | None = None

    @property
    def failed(self) -> bool:
        return self.status in (Status.WRONG, Status.ERROR)

    def to_json(self) -> dict[str, Any]:
        """Plain values by the names of `selftest --json`."""
        return {JSON_NAMES.get(name, name): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Plan:
    """The checks that fit into `limit_bytes` and this machine, and how many were left out."""

    checks: tuple[Check, ...]
    too_large: int  # need more memory than there is
    real_shapes: int  # without Metal: real shapes take minutes on a CPU and show nothing more
    limit_bytes: int | None

    @property
    def memory_bytes(self) -> int:
        """The most any check takes; they run one after the other."""
        return max((check.memory_bytes for check in self.checks), default=0)


def plan(references: References, limit_bytes: int | None) -> Plan:
    """All checks of the package that this machine can run within `limit_bytes`."""
    everything = list(references.checks())
    runnable = [check for check in everything if device.has_metal() or check.size == "small"]
    fitting = [c for c in runnable if limit_bytes is None or c.memory_bytes <= limit_bytes]
    return Plan(
        checks=tuple(fitting),
        too_large=len(runnable) - len(fitting),
        real_shapes=len(everything) - len(runnable),
        limit_bytes=limit_bytes,
    )


def findings(checks: Sequence[Check]) -> Iterator[Finding]:
    """Run the checks one by one; the arrays of one are freed before the next."""
    for check in checks:
        yield _finding(check)
        mx.clear_cache()


def _finding(check: Check) -> Finding:
    try:
        return _on_metal(check) if device.has_metal() else _without_metal(check)
    except Exception as error:  # whatever MLX, Metal's compiler or numpy raises
        note = f"{type(error).__name__}: {one_line(error)}"
        return Finding(check.kernel, check.instantiation, check.size, Status.ERROR, note)


def _on_metal(check: Check) -> Finding:
    case = check.prepare()
    right = case.exact()
    kernel = _deviation(case.kernel, right, check.tolerances)
    reference = _deviation(case.reference, right, check.reference_tolerances or check.tolerances)
    if not (kernel.allowed and reference.allowed):
        return _wrong(check, {"the kernel": kernel, "the reference": reference})
    taken = in_turn(case.kernel, case.reference)
    status = Status.OK if taken.wins else Status.SLOWER
    return _described(
        check,
        status,
        kernel,
        reference_error=reference.error,
        kernel_ms=taken.kernel_seconds * 1e3,
        reference_ms=taken.reference_seconds * 1e3,
        gigabytes_per_second=check.bytes_moved / taken.kernel_seconds / 1e9,
        teraflops=check.flops / taken.kernel_seconds / 1e12,
    )


def _without_metal(check: Check) -> Finding:
    case = check.prepare()
    reference = _deviation(
        case.reference, case.exact(), check.reference_tolerances or check.tolerances
    )
    if not reference.allowed:
        return _wrong(check, {"the reference": reference})
    return _described(check, Status.OK, reference, reference_error=reference.error)


def _deviation(
    run: Callable[[], Sequence[mx.array]],
    right: Sequence[Result],
    tolerances: Sequence[Tolerance],
) -> Deviation:
    results = run()
    mx.eval(results)
    return worst(results, right, tolerances)


def _wrong(check: Check, found: Mapping[str, Deviation]) -> Finding:
    wrong = {who: deviation for who, deviation in found.items() if not deviation.allowed}
    note = "; ".join(f"{who} is wrong: {deviation}" for who, deviation in wrong.items())
    return _described(check, Status.WRONG, next(iter(wrong.values())), note=note)


def _described(check: Check, status: Status, found: Deviation, **measured: Any) -> Finding:
    return Finding(
        check.kernel,
        check.instantiation,
        check.size,
        status,
        output=found.tolerance.output,
        error=found.error,
        tolerance=found.tolerance.limit,
        reason=found.tolerance.reason,
        **measured,
    )
