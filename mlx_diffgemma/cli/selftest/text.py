"""What `selftest` prints: for people a head and a Markdown table, for programs one object."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ...kernels.selftest import Finding, Plan
from ...machine import device
from ...machine.identity import Identity
from ...model.memory import sized

FLOPS_A_BYTE = 16  # from here on arithmetic, not memory, is what limits a kernel on these chips
WIDEST = 10_000  # characters: more than any table, so that no cell is folded

Findings = Sequence[Finding]


def to_json(machine: Identity, plan: Plan, found: Findings) -> dict[str, Any]:
    """What `selftest --json` prints; an error that is not finite is null."""
    return {
        "metal": device.has_metal(),
        "machine": asdict(machine),
        "memory_bytes": plan.memory_bytes,
        "memory_limit_bytes": plan.limit_bytes,
        "planned": len(plan.checks),
        "left_out": {"too_large": plan.too_large, "real_shapes": plan.real_shapes},
        "finished": len(found),
        "failed": sum(finding.failed for finding in found),
        "checks": [_finite(asdict(finding)) for finding in found],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in values.items()
    }


def report(machine: Identity, plan: Plan, found: Findings) -> str:
    """The whole text, ready for an issue: nothing in it is cut, however wide it gets."""
    lines = [*_head(machine, plan, found), "", *_table(found), *_notes(found)]
    return "\n".join(lines).rstrip() + "\n"


def _head(machine: Identity, plan: Plan, found: Findings) -> Iterator[str]:
    yield f"device    {machine.device} ({machine.architecture})"
    yield f"system    {machine.system}"
    yield f"versions  mlx-diffgemma {machine.package}, MLX {machine.mlx}, kernels {machine.kernels}"
    yield f"memory    {_memory(plan)}"
    yield f"checks    {_counts(plan, found)}"
    if not device.has_metal():
        yield "No Metal device here: no kernel ran; what runs in its place was checked, not timed."
        if plan.real_shapes:
            yield f"{plan.real_shapes} checks on the 26B model's shapes are left to a Mac."
    if plan.too_large:
        yield f"{plan.too_large} checks need more memory than that and were left out."


def _memory(plan: Plan) -> str:
    limit = "" if plan.limit_bytes is None else f", allowed {sized(plan.limit_bytes)}"
    return f"at most {sized(plan.memory_bytes)} at a time{limit}"


def _counts(plan: Plan, found: Findings) -> str:
    statuses = [finding.status.value for finding in found]
    counts = (f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return ", ".join([f"{len(found)} of {len(plan.checks)} done", *counts])


def _table(found: Findings) -> list[str]:
    """A Markdown table as wide as its contents."""
    table = Table(box=box.MARKDOWN)
    table.add_column("kernel")
    table.add_column("instantiation")
    table.add_column("size")
    table.add_column("result")
    for heading in ("error", "allowed", "kernel ms", "twin ms", "rate"):
        table.add_column(heading, justify="right")
    for finding in found:
        table.add_row(*_row(finding))
    console = Console(width=WIDEST, color_system=None, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        finding.kernel,
        finding.instantiation,
        finding.size,
        finding.status.value,
        _number(finding.error, ".1e"),
        _number(finding.tolerance, ".1e"),
        _number(finding.kernel_ms, ".3f"),
        _number(finding.twin_ms, ".3f"),
        _rate(finding),
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}" if value else "0"


def _rate(finding: Finding) -> str:
    """Arithmetic a second where that is what limits the kernel, else bytes a second."""
    bandwidth, arithmetic = finding.gigabytes_per_second, finding.teraflops
    if bandwidth is None or arithmetic is None:
        return ""
    limited_by_arithmetic = arithmetic * 1e3 > FLOPS_A_BYTE * bandwidth
    return f"{arithmetic:.2f} TFLOPS" if limited_by_arithmetic else f"{bandwidth:.1f} GB/s"


def _notes(found: Findings) -> Iterator[str]:
    noted = [finding for finding in found if finding.note]
    if noted:
        yield ""
    for finding in noted:
        yield f"{finding.kernel}, {finding.instantiation}, {finding.size}: {finding.note}"
