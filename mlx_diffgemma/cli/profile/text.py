"""The report of `profile` for people: a summary, and all figures in plain aligned lines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import counted
from ...kernels.soft_gather.tiers import FIRST, KEPT, SECOND
from ...model.memory import sized
from ..hardware import hardware
from ..terminal.output import broken
from ..verdicts import summary as verdicts_summary
from . import modes
from .parts import component_lines, decision_lines, link_lines, routing_lines
from .summary import sentences

Values = Mapping[str, Any]
NAMES = 18  # columns that the names of figures take


def lines(profile: Values) -> Iterator[str]:
    """The whole report, from what `--json` writes."""
    yield from map(broken, sentences(profile))
    yield ""
    blocks = (_machine, _what, _times, _rates, modes.rows)
    for name, value in (line for block in blocks for line in block(profile)):
        yield broken(f"{name:<{NAMES}}{value}", indent=NAMES)
    if profile["components"]:
        yield ""
        yield from component_lines(profile)
    if profile.get("link"):
        yield ""
        yield from link_lines(profile["link"])
    if profile["routing"]:
        yield ""
        yield from routing_lines(profile["routing"], profile["work"])
    if profile["sustained"]:
        yield ""
        yield from _sustained(profile["sustained"], profile["answers"])
    if profile["baseline"]:
        yield ""
        yield from _baseline(profile["baseline"], profile)
    if profile["encoder_head"]:
        yield ""
        yield from _encoder_head(profile["encoder_head"])
    if profile["decide"]:
        yield ""
        yield from decision_lines(profile["decide"])
    for warning in profile["warnings"]:
        yield broken(f"warning: {warning}")


def _machine(profile: Values) -> Iterator[tuple[str, str]]:
    machine = profile["machine"]
    yield "machine", hardware(machine)
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    yield "system", f"{machine['system']}, on the {machine['device'].upper()}"
    yield "versions", f"mlx-diffgemma {profile['version']}, {versions}"
    if machine["before"]["power"]:
        heat = f", thermal {machine['before']['thermal'] or 'unknown'}"
        low = ", low power mode" if machine["before"]["low_power_mode"] else ""
        yield "power", f"{machine['before']['power']}{low}{heat}"


def _what(profile: Values) -> Iterator[tuple[str, str]]:
    model, sampler, workload = profile["model"], profile["sampler"], profile["workload"]
    revision = f" (revision {model['revision']})" if model["revision"] else ""
    yield "model", f"{model['name']}{revision}, {counted(model['layers'], 'layer')}"
    if profile["adapter"]:
        yield "adapter", profile["adapter"]
    packings = sorted({name for names in model["quantization"].values() for name in names})
    yield "weights", f"{' + '.join(packings)}; computes in {model['dtype']}, {model['kernels']}"
    yield (
        "sampler",
        f"at most {counted(sampler['max_denoising_steps'], 'step')}, entropy bound "
        f"{sampler['entropy_bound']:g} nats, temperature {sampler['t_max']:g} to "
        f"{sampler['t_min']:g}, stability {sampler['stability_threshold']}, confidence "
        f"{sampler['confidence_threshold']:g} nats",
    )
    kind = f"{counted(workload['steps'], 'step')} a canvas" if workload["steps"] else "adaptive"
    answers, canvases = workload["answers"], workload["canvases"]
    counts = f"{counted(answers, 'answer')}, {counted(canvases, 'canvas')} of"
    prompt = counted(round(workload["prompt_tokens"]), "token")
    size = f"{counts} {model['canvas_length']} behind {prompt}"
    yield "workload", f"{kind}: {size}"


def _times(profile: Values) -> Iterator[tuple[str, str]]:
    step, bound = profile["step_ms"], profile["bound"]
    yield "load", f"{profile['load_seconds']:.2f} s"
    share = _of_bound(bound, "prefill_share")
    yield "prefill", f"{profile['prefill_tokens_per_second']:,.0f} tokens/s{share}"
    yield "first canvas", f"{profile['first_canvas_seconds']:.2f} s"
    spread = f"canvases differ by {profile['step_spread']:.1%}"
    yield (
        "step",
        f"{step['p50']:.4g} ms (p10 {step['p10']:.4g}, p90 {step['p90']:.4g}; {spread})"
        f"{_of_bound(bound, 'share')}",
    )
    if profile["commit_ms"] is not None:
        yield "commit", f"{profile['commit_ms']:.4g} ms{_of_bound(bound, 'commit_share')}"
    if bound:
        limits = f"arithmetic {bound['compute_ms']:.4g} ms, memory {bound['memory_ms']:.4g} ms"
        estimate = ", estimated" if bound["estimated"] else ""
        yield "bound of a step", f"{limits} ({bound['name']}{estimate})"
        work = profile["work"]
        yield (
            "",
            f"with all {work['experts']} experts of a layer; memory {bound['text_memory_ms']:.4g} "
            f"ms with {work['text_experts']}, the share published for text (assumed)",
        )
    elif profile["link"]:
        yield "bound of a step", "none: several Macs share it"
    else:
        yield "bound of a step", "none: this chip is not in the table"


def _rates(profile: Values) -> Iterator[tuple[str, str]]:
    steps = profile["steps_per_canvas"]
    cap = f"; {profile['share_at_cap']:.0%} at the cap"
    yield "steps a canvas", f"{histogram(steps)}{cap}"
    asked = ", for the steps asked for" if profile["workload"]["kind"] == "fixed" else ""
    yield "tokens a step", f"{profile['tokens_per_step']:.2f}, to the stop id{asked}"
    forward, effective = profile["tokens_per_forward"], profile["effective_steps"]
    yield "tokens a forward", f"{forward:.2f} = tokens / (steps + canvases - 1){asked}"
    yield "effective steps", f"{effective:.2f} a canvas, weighted by its tokens{asked}"
    without = profile["tokens_per_second_without_prefill"]
    yield "tokens/s", f"{profile['tokens_per_second']:.4g} ({without:.4g} without prefill)"
    yield "positions/s", f"{profile['positions_per_second']:.4g}, whole canvases: not tokens"
    yield "peak memory", sized(profile["peak_memory_bytes"])
    yield from inside(profile)
    if gentle := profile["gentle"]:
        yield (
            "with --gentle",
            f"{gentle['step_ms']['p50']:.4g} ms a step, {gentle['ratio']:.3g} times as long; the "
            f"GPU free for {gentle['free_share']:.0%} of the time",
        )


def inside(profile: Values) -> Iterator[tuple[str, str]]:
    """A step's soft embeddings by what they are made of, the caller's time, and the verdicts."""
    first, second, dense = (
        profile[f"{tier}_rows_per_step"] for tier in ("gathered", "second_tier", "dense")
    )
    yield (
        "soft embeddings",
        f"{first:.4g} rows a step from {KEPT[FIRST]} tokens, {second:.4g} from {KEPT[SECOND]:,}, "
        f"{dense:.4g} by the whole product",
    )
    if profile["caller_ms_per_step"]:
        hidden = f"{profile['caller_ms_per_step']:.3g} ms a step"
        yield "caller's time", f"{hidden} with the frame before, while the step already ran"
    if profile["verdicts"]:
        yield "kernel verdicts", verdicts_summary(profile["verdicts"])


def histogram(steps: list[int]) -> str:
    """Canvases by number of steps: every count, or ranges where there are many."""
    least, most = min(steps), max(steps)
    width = -(-(most - least + 1) // 8)
    parts = []
    for first in range(least, most + 1, width):
        last = min(most, first + width - 1)
        number = sum(first <= count <= last for count in steps)
        if number:
            parts.append(f"{number} x {first}" + (f"-{last}" if last > first else ""))
    return ", ".join(parts)


def _sustained(sustained: Values, answers: Sequence[Values]) -> Iterator[str]:
    seconds = min(sustained["seconds"], answers[-1]["began"] + answers[-1]["seconds"])
    yield f"sustained for {seconds:.0f} s: median step in ten stretches of time"
    yield "  " + "  ".join(f"{window['step_ms']:.4g}" for window in sustained["windows"]) + " ms"
    yield f"  the last is {sustained['slowdown']:+.1%} against the first"


def _baseline(baseline: Values, profile: Values) -> Iterator[str]:
    token = baseline["token_ms"]
    answers = counted(baseline["answers"], "answer")
    made_of = f" ({source} as Gemma 4)" if (source := baseline.get("source")) else ""
    yield f"autoregressive: {baseline['name']}{made_of}, {answers} in turn, by mlx-lm"
    yield (
        f"  {token['p50']:.4g} ms a token (p10 {token['p10']:.4g}, p90 {token['p90']:.4g}), "
        f"{baseline['tokens_per_second']:.4g} tokens/s, prefill "
        f"{baseline['prefill_tokens_per_second']:,.0f} tokens/s"
    )
    if (ratio := baseline.get("ar_ratio")) is not None:
        own = profile["ar"]["token_ms"]["p50"]
        yield f"  mode ar takes {own:.4g} ms: {ratio:.3g} times as fast"
    even = f"  diffusion breaks even at {baseline['break_even_tokens_per_step']:.3g} tokens a step"
    tokens_per_step = f"{profile['tokens_per_step']:.3g}"
    if profile["workload"]["kind"] == "fixed":  # however many tokens a step were asked for
        yield f"{even}; the steps asked for made {tokens_per_step}, which is no measure of speed:"
        yield "  --steps adaptive shows how many it takes, and which of the two is faster"
        return
    faster = "diffusion" if baseline["ratio"] > 1 else "autoregressive"
    yield f"  {faster} is faster here: diffusion has {baseline['ratio']:.3g} times its tokens/s"
    yield f"{even}; measured were {tokens_per_step}"


def _encoder_head(found: Values) -> Iterator[str]:
    prompts = counted(sum(text["prompt_tokens"] for text in found["texts"]), "token")
    answers = counted(sum(text["answer_tokens"] for text in found["texts"]), "token")
    token = found["token_ms"]
    yield f"the encoder as a next-token model, on {counted(len(found['texts']), 'shipped text')}"
    yield f"  perplexity of prompts   {found['prompt_perplexity']:.4g} ({prompts})"
    yield f"  perplexity of answers   {found['answer_perplexity']:.4g} ({answers})"
    yield (
        f"  agrees with canvases    {found['agreement']:.1%} of "
        f"{counted(found['agreement_tokens'], 'committed token')}"
    )
    yield (
        f"  token by token          {found['tokens_per_second']:.4g} tokens/s, "
        f"{token['p50']:.4g} ms each (p10 {token['p10']:.4g}, p90 {token['p90']:.4g})"
    )


def _of_bound(bound: Values | None, name: str) -> str:
    share = bound.get(name) if bound else None
    return "" if share is None else f"; {share:.0%} of the chip's bound"
