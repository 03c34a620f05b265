"""`selftest --link`: the link between several Macs, in a table or as JSON."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ...share.link import LinkTest, measured
from ...share.predicted import Step
from ..errors import FAILED
from ..macs.group import Group, meeting
from ..macs.hostfile import backend_of
from ..terminal.output import show
from ..terminal.streams import say


def report_link(*, as_json: bool) -> int:
    """Measure the link and report it; exit code 1 where the Macs got different sums."""
    from ...machine.chips import this_chip

    with meeting("selftest --link") as group:
        chip = this_chip()
        test = measured(group.share, None if chip is None else chip.tflops)
        show(to_json(group, test), lines(group, test), as_json)
        for warning in test.warnings:
            say(f"warning: {warning}.")
        return group.code(0 if test.equal_bits else FAILED)


def to_json(group: Group, test: LinkTest) -> dict[str, Any]:
    """The object of `selftest --link --json`."""
    return {
        "macs": [group.share.mac(rank) for rank in range(group.share.size)],
        "backend": backend_of(os.environ),
        "equal_bits": test.equal_bits,
        "sums": [asdict(each) for each in test.sums],
        "step": {
            "source": "arithmetic",
            "one_mac_ms": test.one_mac_ms,
            **{cut: asdict(step) for cut, step in test.steps.items()},
        },
        "warnings": test.warnings,
    }


def lines(group: Group, test: LinkTest) -> Iterator[str]:
    """The report for people."""
    macs = ", ".join(group.share.mac(rank) for rank in range(group.share.size))
    yield f"link      {backend_of(os.environ)} between {macs}"
    yield f"bits      {'the same sums everywhere' if test.equal_bits else 'DIFFERENT SUMS'}"
    yield ""
    yield f"{'bytes':>12}{'median us':>12}{'GB/s':>9}"
    for each in test.sums:
        yield f"{each.bytes:>12,}{each.median_us:>12,.0f}{each.gb_per_s:>9.2f}"
    yield ""
    yield "A denoising step of the 26B model over this link, by arithmetic:"
    for name, step in test.steps.items():
        yield f"  {name:<8}{_step(step)}"


def _step(step: Step) -> str:
    link = f"{step.link_ms:.1f} ms of link"
    if step.step_ms is None:
        return f"{link}; this chip is not in the table, so no more is known"
    return f"{link}, {step.step_ms:.0f} ms in all, {step.speed_up:.2f}x one Mac"
