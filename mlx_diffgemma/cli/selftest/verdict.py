"""The outcome of a selftest: one sentence for people, and one line to paste."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from ...errors import counted
from ..hardware import hardware

if TYPE_CHECKING:
    from ...kernels.selftest import Finding, Plan
    from ...kernels.verdicts import VerdictRow
    from ...machine.identity import Identity, Machine

TILES = re.compile(r"tiles of \d+ rows")  # in an instantiation, as kernels/experts/plan.py has it


@dataclass(frozen=True)
class Run:
    """All that a selftest reports; verdicts: those that are kept, which it does not ask."""

    identity: "Identity"
    machine: "Machine"
    plan: "Plan"
    found: "Sequence[Finding]"
    verdicts: "Sequence[VerdictRow]"

    @property
    def off(self) -> list[str]:
        """The kernels of checks that failed, each once."""
        return list(dict.fromkeys(finding.kernel for finding in self.found if finding.failed))

    @property
    def failures(self) -> str:
        """How many checks failed, and of which kernels."""
        failed = sum(finding.failed for finding in self.found)
        checks = counted(len(self.found), "check")
        return f"{failed:,} of {checks} failed ({', '.join(self.off)})"


def sentence(ran: Run) -> str:
    """The verdict: kernels agree, or which are off and what that means, or that none ran."""
    done, planned = len(ran.found), len(ran.plan.checks)
    if not planned:
        return "nothing was checked: no check fits into the memory that is free here."
    if not done:
        return "nothing is known: it ended before the first check."
    early = "" if done == planned else f"as far as it got, {done:,} of {planned:,} checks: "
    return early + (_off(ran) if ran.off else _agree(ran))


def _off(ran: Run) -> str:
    from ...machine import device

    if device.has_metal():
        return (
            f"{ran.failures}: these kernels do not compute here what their reference "
            "implementations do. An answer uses a kernel only after a trial of its own, and none "
            "with MLX_DIFFGEMMA_KERNELS=off."
        )
    return (
        f"{ran.failures}: what runs in the kernels' place is off on this machine, and answers may "
        "be too."
    )


def _agree(ran: Run) -> str:
    from ...machine import device

    checks = counted(len(ran.found), "check")
    if not device.has_metal():
        return (
            "no Metal here, so no kernel ran; the reference implementations, which run in their "
            f"place, agree with float64 in {checks}."
        )
    slower = sum(finding.status == "slower" for finding in ran.found)
    unused = (
        f"; {slower:,} found the kernel slower, and there MLX's operations run" if slower else ""
    )
    return f"all kernels agree with their reference implementations in {checks}{unused}."


def line(ran: Run) -> str:
    """Machine, versions, verdict and kernels in one line, which is a row of a Markdown table too.

    It names no user and no path.
    """
    identity = ran.identity
    parts = (
        hardware(asdict(ran.machine)),
        ran.machine.system,
        f"MLX {identity.mlx}",
        f"mlx-diffgemma {identity.package} (kernels {identity.kernels})",
        _in_short(ran),
        ", ".join(_kernels(ran.found)) or "no kernel was timed",
    )
    return " | ".join(part.replace("|", "/") for part in parts)


def _in_short(ran: Run) -> str:
    from ...machine import device

    done, planned = len(ran.found), len(ran.plan.checks)
    checks = counted(planned, "check")
    count = checks if done == planned else f"{done:,} of {checks}"
    where = "" if device.has_metal() else "no Metal, "
    return f"{where}{count}, {'off: ' + ' + '.join(ran.off) if ran.off else 'none off'}"


def _kernels(found: "Sequence[Finding]") -> Iterator[str]:
    """Each kernel that was timed: on or off by what it won, and its speed by that of MLX's.

    Of checks on the 26B model's shapes, where there are any: the small ones say little of speed.
    Heights of tiles are kernels of their own.
    """
    for kernel in dict.fromkeys(_named(finding) for finding in found):
        checks = [finding for finding in found if _named(finding) == kernel]
        checks = [finding for finding in checks if finding.size != "small"] or checks
        ratios = [f.reference_ms / f.kernel_ms for f in checks if f.kernel_ms and f.reference_ms]
        if ratios:
            won = sum(finding.status == "ok" for finding in checks)
            state = {len(checks): "on", 0: "off"}.get(won, f"on in {won} of {len(checks)}")
            yield f"{kernel.replace(', ', ' + ')} {state} {median(ratios):.2f}x"


def _named(finding: "Finding") -> str:
    tiles = TILES.search(finding.instantiation)
    return f"{finding.kernel} in {tiles.group()}" if tiles else finding.kernel
