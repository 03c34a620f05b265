"""The report of `profile` for people: the figures of one measurement in plain aligned lines."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import counted
from ...kernels.soft_gather.tiers import FIRST, KEPT, SECOND
from ...model.memory import sized
from ...profile.comparison import Row, is_complete
from ..verdicts import summary
from . import modes

Values = Mapping[str, Any]


def lines(profile: Values) -> Iterator[str]:
    """The whole report, from what `--json` writes."""
    blocks = (_machine, _what, _times, _rates, modes.rows)
    for name, value in (line for block in blocks for line in block(profile)):
        yield f"{name:<18}{value}"
    if profile["components"]:
        yield ""
        yield from _components(profile)
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
    for warning in profile["warnings"]:
        yield f"warning: {warning}"
    yield from modes.sentence(profile)


def _machine(profile: Values) -> Iterator[tuple[str, str]]:
    machine = profile["machine"]
    cores = f", {counted(machine['gpu_cores'], 'GPU core')}" if machine["gpu_cores"] else ""
    memory = f", {sized(machine['memory_bytes'])}" if machine["memory_bytes"] else ""
    yield "machine", f"{machine['chip'] or 'unknown chip'}{cores}{memory}"
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
        yield "kernel verdicts", summary(profile["verdicts"])


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


def _components(profile: Values) -> Iterator[str]:
    fences = profile["fences"]
    yield f"{'a step by part':<18}{'ms':>10}{'share':>8}{'GFLOP':>10}{'read':>12}{'of bound':>10}"
    for name, part in profile["components"].items():
        share = "" if part["share"] is None else f"{part['share']:.1%}"
        counted = part["gflop"] > 0
        work = f"{part['gflop']:.4g}" if counted else ""
        read = sized(round(part["bytes"])) if counted else ""
        bound = "" if part["bound_share"] is None else f"{part['bound_share']:.0%}"
        row = f"{name:<18}{part['ms']:>10.4g}{share:>8}{work:>10}{read:>12}{bound:>10}"
        yield row.rstrip()
    total = sum(part["ms"] for part in profile["components"].values())
    yield f"{'sum':<18}{total:>10.4g}   the same steps without fences {fences['plain_step_ms']:.4g}"
    yield waiting(fences)


def waiting(fences: Values) -> str:
    """The time that fences took: a difference of two times, which noise may make negative."""
    times = counted(round(fences["fences_per_step"]), "time")
    if fences["overhead_ms"] <= 0:
        return f"waiting {times} a step took less than its steps differ by: nothing is taken off"
    return (
        f"waiting {times} a step took {fences['overhead_ms']:.3g} ms "
        f"({fences['overhead_share']:.1%} of it), taken off above"
    )


def routing_lines(routing: Values, work: Values) -> Iterator[str]:
    """The router's choices: experts that are used, their rows, tiles and bytes."""
    touched, by_step = routing["touched"], routing["touched_by_step"]
    yield (
        f"experts of a layer used in a step: {touched['mean']:.4g} of {routing['experts']} "
        f"({touched['least']} to {touched['most']}; {by_step[0]:.4g} in a canvas's first step, "
        f"{by_step[-1]:.4g} in the last; {work['text_experts']} is the share published for text)"
    )
    rows = (f"{row['experts']:.3g} x {_span(row)}" for row in routing["rows_per_expert"])
    yield f"  experts by rows       {', '.join(rows)}"
    yield (
        f"  tiles of {routing['tile_rows']} rows      {routing['tiles']:.4g} a layer; "
        f"{routing['tile_waste']:.0%} of their rows are empty, {routing['granule_waste']:.0%} in "
        f"steps of {routing['granule_rows']}"
    )
    yield f"  their weights         {sized(round(routing['expert_bytes']))} a step, read once"


def _span(row: Values) -> str:
    if row["most"] is None:
        return f"{row['least']}+"
    return f"{row['least']}" if row["least"] == row["most"] else f"{row['least']}-{row['most']}"


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


def comparison_lines(rows: Sequence[Row], profiles: Mapping[str, Values]) -> Iterator[str]:
    """The report of `profile compare`: a line a figure, the step's in words first.

    profiles: the two runs by the letters that they have in the table.
    """
    step = next(row for row in rows if row.name == "step")
    yield f"{_verdict(step)}: a step changes by {_interval(step)}"
    yield ""
    yield f"{'':<16}{'A':>12}{'B':>12}  change (95% interval)"
    for row in rows:
        name = f"{row.name} [{row.unit}]" if row.unit else row.name
        yield (
            f"{name:<20}{row.change.first:>10.4g}{row.change.second:>12.4g}  {_interval(row)}, "
            f"{row.verdict}"
        )
    for letter, profile in profiles.items():
        if not is_complete(profile):
            answers = len(profile["answers"])
            yield f"warning: {letter} is of a run that was not finished: {answers} answers"


def _verdict(step: Row) -> str:
    return {"better": "B is faster", "worse": "B is slower"}.get(step.verdict, step.verdict)


def _interval(row: Row) -> str:
    if not math.isfinite(row.change.high):
        return f"{row.change.share:+.1%}"
    return f"{row.change.share:+.1%} ({row.change.low:+.1%} to {row.change.high:+.1%})"
