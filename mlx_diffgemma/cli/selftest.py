"""`selftest`: every Metal kernel compiled, compared and timed on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import counted
from .errors import FAILED, exit_code
from .options import ReportOptions
from .parameters import flattened
from .terminal.output import show
from .terminal.streams import say
from .verdicts import summary

if TYPE_CHECKING:
    from ..kernels.selftest import Finding, Plan
    from ..kernels.verdicts import VerdictRow
    from ..machine.identity import Identity

SHARE = 2  # the checks may take one part in this many of the memory there is
FLOPS_A_BYTE = 16  # from here on arithmetic, not memory, is what limits a kernel on these chips
WIDEST = 10_000  # characters: more than any table, so that no cell is folded


@dataclass(frozen=True)
class Tested:
    """All that a selftest reports; verdicts: those that are kept, which it does not ask."""

    machine: "Identity"
    plan: "Plan"
    found: "Sequence[Finding]"
    verdicts: "Sequence[VerdictRow]"


@flattened()
def command(output: ReportOptions) -> int:
    """Check and time the project's Metal kernels on this machine, for a report that can be pasted.

    Every kernel is compiled, compared with float64 and timed against MLX's own operations, on small
    shapes and on those of the 26B model, with random weights; no checkpoint is needed. Without a
    Metal device only what runs in its place is compared. The verdicts that are kept for
    this machine are summed up with their age. Exit code 1 when a result is wrong.
    """
    from ..diffusion import sampler
    from ..kernels.dispatch import stored_verdicts
    from ..kernels.selftest import References, findings, plan
    from ..kernels.verdicts import this_identity
    from ..machine.memory import available_memory
    from ..model import experts, soft_gather
    from ..model.memory import sized
    from .terminal.progress import Bar

    available = available_memory()
    references = References(experts=experts, denoise=sampler, soft_gather=soft_gather)
    planned = plan(references, None if available is None else available // SHARE)
    say(f"{len(planned.checks)} checks, at most {sized(planned.memory_bytes)} of memory at a time")
    found: list[Finding] = []
    code = 0
    try:
        with Bar("checking") as bar:
            for finding in findings(planned.checks):
                found.append(finding)
                bar(len(found), len(planned.checks))
    except KeyboardInterrupt as interrupt:
        say(f"interrupted: {len(found)} of {len(planned.checks)} checks finished.")
        code = exit_code(interrupt)
    tested = Tested(this_identity(), planned, found, stored_verdicts())
    show(to_json(tested), report(tested), output.as_json)
    return code or _verdict(found)


def _verdict(found: "Sequence[Finding]") -> int:
    failed = [finding.kernel for finding in found if finding.failed]
    if not failed:
        return 0
    kernels = ", ".join(dict.fromkeys(failed))
    say(
        f"error: {len(failed)} of {counted(len(found), 'check')} failed ({kernels}); "
        "please report the output above; MLX_DIFFGEMMA_KERNELS=off runs without the kernels."
    )
    return FAILED


def to_json(tested: Tested) -> dict[str, Any]:
    """The object of `selftest --json`; an error that is not finite is null."""
    from ..machine import device

    plan, found = tested.plan, tested.found
    return {
        "metal": device.has_metal(),
        "machine": asdict(tested.machine),
        "memory_bytes": plan.memory_bytes,
        "memory_limit_bytes": plan.limit_bytes,
        "planned": len(plan.checks),
        "left_out": {"too_large": plan.too_large, "real_shapes": plan.real_shapes},
        "finished": len(found),
        "failed": sum(finding.failed for finding in found),
        "checks": [_finite(finding.to_json()) for finding in found],
        "verdicts": [asdict(row) for row in tested.verdicts],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in values.items()
    }


def report(tested: Tested) -> Iterator[str]:
    """The whole text, ready for an issue: nothing in it is cut, however wide it gets."""
    yield from _head(tested)
    yield ""
    yield from _table(tested.found)
    yield from _notes(tested.found)


def _head(tested: Tested) -> Iterator[str]:
    from ..machine import device

    machine, plan, found = tested.machine, tested.plan, tested.found
    yield f"device    {machine.device} ({machine.architecture})"
    yield f"system    {machine.system}"
    yield f"versions  mlx-diffgemma {machine.package}, MLX {machine.mlx}, kernels {machine.kernels}"
    yield f"memory    {_memory(plan)}"
    yield f"checks    {_counts(plan, found)}"
    yield f"verdicts  kept: {summary([asdict(row) for row in tested.verdicts])}"
    if not device.has_metal():
        yield "No Metal device here: no kernel ran; what runs in its place was checked, not timed."
        if plan.real_shapes:
            yield f"{counted(plan.real_shapes, 'check')} on the 26B model's shapes: left to a Mac."
    if plan.too_large:
        yield f"{counted(plan.too_large, 'check')} left out: they need more memory than that."


def _memory(plan: "Plan") -> str:
    from ..model.memory import sized

    limit = "" if plan.limit_bytes is None else f", allowed {sized(plan.limit_bytes)}"
    return f"at most {sized(plan.memory_bytes)} at a time{limit}"


def _counts(plan: "Plan", found: "Sequence[Finding]") -> str:
    statuses = [finding.status.value for finding in found]
    counts = (f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return ", ".join([f"{len(found)} of {len(plan.checks)} done", *counts])


def _table(found: "Sequence[Finding]") -> list[str]:
    """A Markdown table as wide as its contents."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("kernel", "instantiation", "size", "result", box=box.MARKDOWN)
    for heading in ("error", "allowed", "kernel ms", "reference ms", "rate"):
        table.add_column(heading, justify="right")
    for finding in found:
        table.add_row(*_row(finding))
    console = Console(width=WIDEST, color_system=None, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def _row(finding: "Finding") -> tuple[str, ...]:
    return (
        finding.kernel,
        finding.instantiation,
        finding.size,
        finding.status.value,
        _number(finding.error, ".1e"),
        _number(finding.tolerance, ".1e"),
        _number(finding.kernel_ms, ".3f"),
        _number(finding.reference_ms, ".3f"),
        _rate(finding),
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}" if value else "0"


def _rate(finding: "Finding") -> str:
    """Arithmetic a second where that is what limits the kernel, else bytes a second."""
    bandwidth, arithmetic = finding.gigabytes_per_second, finding.teraflops
    if bandwidth is None or arithmetic is None:
        return ""
    limited_by_arithmetic = arithmetic * 1e3 > FLOPS_A_BYTE * bandwidth
    return f"{arithmetic:.2f} TFLOPS" if limited_by_arithmetic else f"{bandwidth:.1f} GB/s"


def _notes(found: "Sequence[Finding]") -> Iterator[str]:
    noted = [finding for finding in found if finding.note]
    if noted:
        yield ""
    for finding in noted:
        yield f"{finding.kernel}, {finding.instantiation}, {finding.size}: {finding.note}"
