"""`finetune --plan`: memory and time of a step, by arithmetic, for people and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ...errors import counted
from ...finetune.plan import Plan
from ...model.memory import sized


def plan_json(plan: Plan) -> dict[str, Any]:
    """The object of `finetune --plan --json`."""
    load = asdict(plan.load)
    modules = load.pop("modules")
    return {
        **load,
        "modules": None if modules is None else list(modules),
        "trained_numbers": plan.trained,
        "parts": plan.parts,
        "largest_of": plan.instead,
        "needed_bytes": plan.needed_bytes,
        "available_bytes": plan.available_bytes,
        "fits": plan.fits,
        "flops": plan.flops,
        "seconds": plan.seconds,
        "chip": plan.chip,
    }


def plan_lines(plan: Plan) -> Iterator[str]:
    """A step's work, what stands in memory beside each other, and the sums."""
    load = plan.load
    batches = f"{counted(load.accumulate, 'batch')} of " if load.accumulate > 1 else ""
    yield (
        f"a step: {batches}{counted(load.batch, 'example')} of {load.length:,} tokens, "
        f"{counted(load.canvases, 'canvas')} each"
    )
    yield f"  {'trained':<24}{plan.trained:>16,} numbers"
    for name, count in plan.parts.items():
        yield f"  {name:<24}{sized(count):>16}"
    for name, count in plan.instead.items():
        counts = count == max(plan.instead.values())
        yield f"  {name:<24}{sized(count):>16}{'' if counts else '  not at the same time'}"
    yield f"  {'needed':<24}{sized(plan.needed_bytes):>16}{_verdict(plan)}"
    if plan.available_bytes is not None:
        yield f"  {'available':<24}{sized(plan.available_bytes):>16}"
    yield f"  {'work':<24}{plan.flops / 1e12:>12,.2f} TFLOP{_time(plan)}"


def _verdict(plan: Plan) -> str:
    return {True: "  it fits", False: "  it does not fit", None: ""}[plan.fits]


def _time(plan: Plan) -> str:
    """The time, where the chip is known."""
    if plan.seconds is None:
        return "  no time: the chip is not known"
    return f"  {plan.seconds:,.1f} s at least on {plan.chip}"
