"""`selftest`: every Metal kernel compiled, compared and timed on this machine."""

from typing import TYPE_CHECKING

from .. import options
from ..errors import FAILED, exit_code, say

if TYPE_CHECKING:
    from ...kernels.selftest import Finding, Plan

SHARE = 2  # the checks may take one part in this many of the memory there is


def command(as_json: options.Json = False) -> int:
    """Check and time the project's Metal kernels on this machine, for a report that can be pasted.

    Every kernel is compiled, compared with float64 and timed against MLX's own operations, on small
    shapes and on those of the 26B model, with random weights; no checkpoint is needed. Without a
    Metal device only what runs in its place is compared. Exit code 1 when a result is wrong.
    """
    from ...kernels.selftest import findings, plan
    from ...machine.memory import available_memory
    from ...model.memory import sized
    from ..terminal.progress import Bar

    available = available_memory()
    planned = plan(None if available is None else available // SHARE)
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
    _show(planned, found, as_json)
    return code or _verdict(found)


def _show(planned: "Plan", found: "list[Finding]", as_json: bool) -> None:
    from ...kernels.verdicts import this_identity
    from ..terminal.output import write_json, write_out
    from .text import report, to_json

    if as_json:
        write_json(to_json(this_identity(), planned, found))
    else:
        write_out(report(this_identity(), planned, found))


def _verdict(found: "list[Finding]") -> int:
    failed = [finding.kernel for finding in found if finding.failed]
    if not failed:
        return 0
    say(
        f"error: {len(failed)} of {len(found)} checks failed ({', '.join(dict.fromkeys(failed))}); "
        "please report the output above; MLX_DIFFGEMMA_KERNELS=off runs without the kernels."
    )
    return FAILED
