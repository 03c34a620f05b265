"""The summary that opens the report of `profile`: a screen of plain words, from its figures."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import counted
from ...profile.passes import HEALTHY_STEPS
from ...profile.workload import FEWEST
from . import modes

Values = Mapping[str, Any]


def sentences(profile: Values) -> Iterator[str]:
    """What a step costs and what limits it, tokens, health, the faster mode, and what to do next.

    Only what this run measured; what it did not is named with the option that measures it.
    """
    yield _step(profile)
    yield from _largest_part(profile)
    yield _tokens(profile)
    yield _health(profile)
    yield from modes.sentence(profile)
    if profile["warnings"]:
        count = counted(len(profile["warnings"]), "warning")
        yield f"{count} at the end of this report, to be read before the figures."
    yield f"Next: {_next(profile)}."


def _step(profile: Values) -> str:
    """Milliseconds of a step, and how far that is from the chip's bound, where one is known."""
    bound, machine = profile["bound"], profile["machine"]
    takes = f"A step takes {profile['step_ms']['p50']:.3g} ms"
    if link := profile.get("link"):
        return (
            f"{takes} on {len(link['ranks'])} Macs by {link['share']}; no bound is known for them."
        )
    if bound is None:
        chip = machine["chip"] or "this chip"
        where = "a CPU" if machine["device"] == "cpu" else chip
        return f"{takes}; no bound is known for {where}."
    by_arithmetic = bound["compute_ms"] >= bound["memory_ms"]
    limit, ms = ("arithmetic", "compute_ms") if by_arithmetic else ("memory", "memory_ms")
    estimate = "an estimated " if bound["estimated"] else ""
    return (
        f"{takes}, {1 / bound['share']:.2g} times this chip's bound: what limits it is {limit}, "
        f"{estimate}{bound[ms]:.3g} ms at the full rate of {bound['name']}."
    )


def _largest_part(profile: Values) -> Iterator[str]:
    shares = {name: part["share"] for name, part in profile["components"].items() if part["share"]}
    if shares:
        name = max(shares, key=lambda part: shares[part])
        yield f"The largest part of a step: {name}, {shares[name]:.0%}."


def _tokens(profile: Values) -> str:
    """Rates of both modes behind the prompt; fixed steps make as many tokens as were asked for."""
    rate = f"{profile['tokens_per_second_without_prefill']:.3g} tokens/s without prefill"
    if profile["workload"]["kind"] == "fixed":
        steps = counted(profile["workload"]["steps"], "step")
        made = f"With {steps} a canvas, as asked for, {rate}"
    else:
        made = f"{profile['tokens_per_step']:.3g} tokens a step; {rate}"
    if profile["ar"] is None:
        return f"{made}. Mode ar: {modes.missing(profile)}."
    return f"{made}; mode ar {profile['ar']['tokens_per_second']:.3g}."


def _health(profile: Values) -> str:
    """The steps that answers took beside those published, or why they cannot be judged by them."""
    if profile["healthy"] is not None:
        judged = "Healthy" if profile["healthy"] else "Not healthy"
        return (
            f"{judged}: {profile['effective_steps']:.1f} effective steps a canvas; {HEALTHY_STEPS}."
        )
    return f"Healthy or not is not known: {_unjudged(profile)}."


def _unjudged(profile: Values) -> str:
    if profile["workload"]["kind"] == "fixed":
        return "its steps are those that were asked for"
    if profile["workload"]["canvases"] < FEWEST:
        return f"fewer than {FEWEST} canvases say nothing"
    return "what is published is of the 26B model"


def _next(profile: Values) -> str:
    """The one thing to do now, by what this run has shown and what it left out."""
    if not profile["complete"]:
        return "measure again, this run ended early"
    if profile["healthy"] is False:
        return "mlx-diffgemma selftest, then weights packed in more bits"
    if profile["workload"]["kind"] == "fixed":
        return "the same with --steps adaptive, for the steps that answers take"
    if not profile["components"] and not profile["sustained"]:
        return "the same with --components, for the part of a step that takes the time"
    return "mlx-diffgemma profile --tune, for what is fastest here; --send, to hand the figures in"
