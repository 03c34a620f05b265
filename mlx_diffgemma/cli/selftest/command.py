"""`selftest`: every Metal kernel compiled, compared and timed on this machine."""

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import FAILED, ArgumentError, exit_code
from ..macs.options import MACS_HELP, ShareOptions, started
from ..options import ReportOptions
from ..parameters import flag, flattened, option
from ..terminal.output import show
from ..terminal.streams import say
from .text import report
from .verdict import Run, line, sentence

if TYPE_CHECKING:
    from ...kernels.selftest import Finding

SHARE = 2  # the checks may take one part in this many of the memory there is


@dataclass(frozen=True)
class LinkOptions:
    """What is checked in place of the kernels."""

    link: bool = flag(
        "--link",
        "Measure the link between the Macs of a group instead: latency, rate, equal sums, and what "
        "it adds to a denoising step, by arithmetic.",
    )
    macs: Path | None = option("--macs", MACS_HELP, "FILE")


@flattened()
def command(ctx: typer.Context, given: LinkOptions, output: ReportOptions) -> int:
    """Check and time the project's Metal kernels on this machine, for a report that can be pasted.

    Every kernel is compiled, compared with float64 and timed against MLX's own operations, on small
    shapes and on those of the 26B model, with random weights; no checkpoint is needed. Without a
    Metal device only what runs in its place is compared. The verdicts that are kept for
    this machine are summed up with their age. At the end stand a verdict and a line to paste. Exit
    code 1 when a result is wrong.
    """
    if given.link:
        return _report_link(ctx, given, output)
    if given.macs is not None:
        raise ArgumentError(
            "--macs is for --link, and kernels are checked on one Mac; leave it out."
        )
    from ...diffusion import classes, sampler
    from ...kernels.dispatch import stored_verdicts
    from ...kernels.selftest import References, findings, plan
    from ...kernels.verdicts import this_identity
    from ...machine.identity import this_machine
    from ...machine.memory import available_memory
    from ...model import experts, soft_gather
    from ...model.memory import sized
    from ..terminal.progress import Bar

    available = available_memory()
    references = References(
        experts=experts, denoise=sampler, classes=classes, soft_gather=soft_gather
    )
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
    ran = Run(this_identity(), this_machine(), planned, found, stored_verdicts())
    show(to_json(ran), report(ran), output.as_json)
    return code or _failure(ran)


def _report_link(ctx: typer.Context, given: LinkOptions, output: ReportOptions) -> int:
    """The link in place of the kernels, on the Macs of --macs or of mlx.launch."""
    from ..macs.launch import launch
    from .link import report_link

    shared = ShareOptions(macs=given.macs)
    return launch(shared, started(ctx)) if shared.launches else report_link(as_json=output.as_json)


def _failure(ran: Run) -> int:
    if not ran.off:
        return 0
    say(
        f"error: {ran.failures}; please report the output above; MLX_DIFFGEMMA_KERNELS=off runs "
        "without the kernels."
    )
    return FAILED


def to_json(ran: Run) -> dict[str, Any]:
    """The object of `selftest --json`; an error that is not finite is null."""
    from ...machine import device

    plan, found = ran.plan, ran.found
    return {
        "metal": device.has_metal(),
        "machine": asdict(ran.identity),
        "memory_bytes": plan.memory_bytes,
        "memory_limit_bytes": plan.limit_bytes,
        "planned": len(plan.checks),
        "left_out": {"too_large": plan.too_large, "real_shapes": plan.real_shapes},
        "finished": len(found),
        "failed": sum(finding.failed for finding in found),
        "checks": [_finite(finding.to_json()) for finding in found],
        "verdicts": [asdict(row) for row in ran.verdicts],
        "verdict": sentence(ran),
        "line": line(ran),
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in values.items()
    }
