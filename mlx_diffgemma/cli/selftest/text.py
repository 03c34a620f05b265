"""The report of `selftest` for people: a head, a Markdown table, and the verdict."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import StringIO
from typing import TYPE_CHECKING

from ...errors import counted
from ..terminal.output import broken
from ..verdicts import summary
from .verdict import Run, line, sentence

if TYPE_CHECKING:
    from ...kernels.selftest import Finding, Plan

FLOPS_A_BYTE = 16  # from here on arithmetic, not memory, is what limits a kernel on these chips
WIDEST = 10_000  # characters: more than any table, so that no cell is folded


def report(ran: Run) -> Iterator[str]:
    """The whole text, ready for an issue: nothing in it is cut, however wide it gets."""
    yield from _head(ran)
    yield ""
    yield from table(ran.found)
    yield from _notes(ran.found)
    yield ""
    yield broken(f"verdict   {sentence(ran)}", indent=10)
    yield "To paste, also as a row of a table:"
    yield line(ran)


def _head(ran: Run) -> Iterator[str]:
    from ...machine import device

    machine, plan, found = ran.identity, ran.plan, ran.found
    yield f"device    {machine.device} ({machine.architecture})"
    yield f"system    {machine.system}"
    yield f"versions  mlx-diffgemma {machine.package}, MLX {machine.mlx}, kernels {machine.kernels}"
    yield f"memory    {_memory(plan)}"
    yield f"checks    {_counts(plan, found)}"
    yield f"verdicts  kept: {summary([asdict(row) for row in ran.verdicts])}"
    if not device.has_metal():
        yield "No Metal device here: no kernel ran; what runs in its place was checked, not timed."
        if plan.real_shapes:
            yield f"{counted(plan.real_shapes, 'check')} on the 26B model's shapes: left to a Mac."
    if plan.too_large:
        yield f"{counted(plan.too_large, 'check')} left out: they need more memory than that."


def _memory(plan: "Plan") -> str:
    from ...model.memory import sized

    limit = "" if plan.limit_bytes is None else f", allowed {sized(plan.limit_bytes)}"
    return f"at most {sized(plan.memory_bytes)} at a time{limit}"


def _counts(plan: "Plan", found: "Sequence[Finding]") -> str:
    statuses = [finding.status.value for finding in found]
    counts = (f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return ", ".join([f"{len(found)} of {len(plan.checks)} done", *counts])


def table(found: "Sequence[Finding]") -> list[str]:
    """A Markdown table as wide as its contents."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("kernel", "instantiation", "size", "result", box=box.MARKDOWN)
    for heading in ("error", "allowed", "kernel ms", "reference ms", "rate"):
        table.add_column(heading, justify="right")
    for finding in found:
        table.add_row(*_row(finding))
    drawn = StringIO()  # a captured console would still touch standard output
    Console(file=drawn, width=WIDEST, color_system=None, markup=False, emoji=False).print(table)
    return [line.rstrip() for line in drawn.getvalue().splitlines() if line.strip()]


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
