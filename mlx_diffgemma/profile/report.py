"""The report of a measurement as one JSON object: figures, conditions, and all samples.

docs/profile.md explains each key; schema.py checks that a file has all of them.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

from ..kernels import dispatch
from ..machine.dtypes import dtype_name
from ..model.inventory import take_inventory
from ..version import __version__
from .accounting import Accounting, measured_components
from .components import MOST_OVERHEAD, Components
from .measurement import Measurement
from .modes import ar_row
from .passes import Counted, effective_steps, healthy, tokens_per_forward, too_many_steps
from .routing import routing_row
from .samples import AnswerRecord, CanvasRecord
from .statistics import percentiles, spread
from .workload import FEWEST, is_raw

SCHEMA_VERSION = 1
MOST_SPREAD = 0.05  # between canvases: with more, the machine was busy, hot or on battery
WINDOWS = 10  # into which a sustained run is divided


def to_json(measured: Measurement) -> dict[str, Any]:
    """The JSON object of `profile --json`."""
    work, figures = Accounting(measured), _figures(measured)
    components, baseline = measured_components(measured), measured.baseline
    gentle = measured.gentle
    ar = ar_row(measured, work, figures)
    sampler = measured.records[0].question.sampler
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": measured.complete,
        "machine": _machine(measured),
        "model": _model(measured),
        "adapter": measured.adapter,
        "sampler": {**asdict(sampler), "stop": list(sampler.stop)},
        "workload": _workload(measured),
        **figures,
        "components": work.component_rows(components) if components else {},
        "fences": components and _fences(components),
        "routing": routing_row(measured.canvases if measured.alone else [], work.config, work.bits),
        "link": measured.link,
        "work": work.work_row,
        "bound": work.bound_row(figures),
        "sustained": _sustained(measured),
        "ar": ar,
        "baseline": baseline.to_json(figures, ar) if baseline and baseline.records else None,
        "gentle": gentle.to_json(figures) if gentle and gentle.records else None,
        "encoder_head": measured.encoder_head,
        "decide": measured.decide,
        "healthy": healthy(measured, figures["effective_steps"]),
        "verdicts": [asdict(row) for row in dispatch.used_verdicts()],
        "warnings": _warnings(measured, figures, components),
        "answers": [_answer(record) for record in measured.records],
    }


def without_prompts(profile: dict[str, Any]) -> dict[str, Any]:
    """A profile to hand in: the prompts have their names, and none its text."""
    answers = [{k: v for k, v in answer.items() if k != "prompt"} for answer in profile["answers"]]
    return {**profile, "answers": answers}


def _figures(measured: Measurement) -> dict[str, Any]:
    canvases, records = measured.canvases, measured.records
    steps = [len(canvas.step_seconds) for canvas in canvases]
    seconds = sum(record.seconds for record in records)
    prefill = sum(record.prefill_seconds for record in records)
    cap = records[0].question.sampler.max_denoising_steps
    commits = [c.commit_seconds for c in canvases if c.commit_seconds is not None]
    length = measured.session.model.config.canvas_length
    return {
        "load_seconds": measured.session.load_seconds,
        "prefill_tokens_per_second": median(
            len(record.question.tokens) / record.prefill_seconds for record in records
        ),
        "first_canvas_seconds": median(record.first_canvas_seconds for record in records),
        "step_ms": percentiles([1e3 * s for canvas in canvases for s in canvas.step_seconds]),
        "step_spread": spread([canvas.step_seconds for canvas in canvases]),
        "commit_ms": 1e3 * median(commits) if commits else None,
        "steps_per_canvas": steps,
        "share_at_cap": sum(count == cap for count in steps) / len(steps),
        "tokens_per_canvas": [canvas.tokens for canvas in canvases],
        "tokens_per_step": measured.tokens / sum(steps),
        "tokens_per_forward": tokens_per_forward(canvases_of(records)),
        "effective_steps": effective_steps(canvases_of(records)),
        "tokens_per_second": measured.tokens / seconds,
        "tokens_per_second_without_prefill": measured.tokens / (seconds - prefill),
        "positions_per_second": length * len(canvases) / seconds,
        **_rows_by_tier(canvases, length),
        "caller_ms_per_step": 1e3 * mean(s for canvas in canvases for s in canvas.caller_seconds),
        "peak_memory_bytes": measured.peak_memory_bytes,
    }


def canvases_of(records: Sequence[AnswerRecord]) -> list[list[Counted]]:
    """Tokens and steps of the canvases of each answer."""
    return [[(c.tokens, len(c.step_seconds)) for c in record.canvases] for record in records]


def _rows_by_tier(canvases: Sequence[CanvasRecord], length: int) -> dict[str, float]:
    """Rows of a step, on average, by what their soft embedding is made of."""
    second = mean(rows for canvas in canvases for rows in canvas.second_tier_rows)
    dense = mean(rows for canvas in canvases for rows in canvas.dense_rows)
    return {
        "gathered_rows_per_step": length - second - dense,
        "second_tier_rows_per_step": second,
        "dense_rows_per_step": dense,
    }


def _machine(measured: Measurement) -> dict[str, Any]:
    """The machine, and its condition before and after."""
    return {
        **asdict(measured.machine),
        "before": asdict(measured.before),
        "after": asdict(measured.after) if measured.after else None,
    }


def _fences(components: Components) -> dict[str, Any]:
    """What the waiting for parts took, beside plain steps."""
    return {
        "plain_step_ms": components.plain_ms,
        "overhead_ms": components.overhead_ms,
        "overhead_share": components.overhead_share,
        "fences_per_step": components.fences,
    }


def _model(measured: Measurement) -> dict[str, Any]:
    session = measured.session
    config, info = session.model.config, session.info
    parts = take_inventory(Path(info.path), config).parts
    return {
        "name": measured.name,
        "revision": info.revision,
        "layers": info.layers,
        "parameters": info.parameters,
        "canvas_length": config.canvas_length,
        "modes": list(config.modes),
        "vocab_size": config.text.vocab_size,
        "dtype": dtype_name(session.model.dtype),
        "quantization": {p.name: list(p.packing) for p in parts if p.name != "vision"},
        "kernels": "metal" if dispatch.running() else "ops",
    }


def _workload(measured: Measurement) -> dict[str, Any]:
    workload, records = measured.workload, measured.records
    return {
        "kind": "fixed" if workload.fixed else "adaptive",
        "steps": workload.steps,
        "context": workload.context,
        "prompt_tokens": median(len(record.question.tokens) for record in records),
        "answers": len(records),
        "planned_answers": workload.answers,
        "canvases": len(measured.canvases),
        "seeds": sorted({record.question.seed for record in records}),
        "prompts": list(dict.fromkeys(record.question.prompt.name for record in records)),
        "template": not is_raw(measured.session),
    }


def _answer(record: AnswerRecord) -> dict[str, Any]:
    question, canvases = record.question, [_canvas(canvas) for canvas in record.canvases]
    return {
        "prompt": question.prompt.text,
        "name": question.prompt.name,
        "kind": question.prompt.kind,
        "licence": question.prompt.licence,
        "seed": question.settings.seed,
        "prompt_tokens": len(question.tokens),
        "began": record.began,
        "prefill_seconds": record.prefill_seconds,
        "first_canvas_seconds": record.first_canvas_seconds,
        "seconds": record.seconds,
        "generated_tokens": len(record.token_ids),
        "token_ids": record.token_ids,
        "finish_reason": record.finish_reason,
        "tokens_per_step": len(record.token_ids) / sum(canvas["steps"] for canvas in canvases),
        "canvases": canvases,
    }


def _canvas(canvas: CanvasRecord) -> dict[str, Any]:
    return {
        "steps": len(canvas.step_seconds),
        "tokens": canvas.tokens,
        "prefix": canvas.prefix,
        "step_ms": [1e3 * seconds for seconds in canvas.step_seconds],
        "caller_ms": [1e3 * seconds for seconds in canvas.caller_seconds],
        "second_tier_rows": canvas.second_tier_rows,
        "dense_rows": canvas.dense_rows,
        "commit_ms": None if canvas.commit_seconds is None else 1e3 * canvas.commit_seconds,
        "parts_ms": [{k: 1e3 * v for k, v in step.seconds.items()} for step in canvas.parts],
    }


def _sustained(measured: Measurement) -> dict[str, Any] | None:
    """Median steps in ten equal stretches of time; slowdown: the last against the first."""
    if measured.sustained_seconds is None:
        return None
    length = measured.seconds / WINDOWS
    stretches: dict[int, list[float]] = {}
    for record in measured.records:
        number = min(WINDOWS - 1, int(record.began / length))
        times = [1e3 * s for canvas in record.canvases for s in canvas.step_seconds]
        stretches.setdefault(number, []).extend(times)
    windows = [
        {"began": number * length, "steps": len(times), "step_ms": median(times)}
        for number, times in sorted(stretches.items())
    ]
    slowdown = windows[-1]["step_ms"] / windows[0]["step_ms"] - 1
    return {"seconds": measured.sustained_seconds, "windows": windows, "slowdown": slowdown}


def _warnings(
    measured: Measurement, figures: dict[str, Any], components: Components | None
) -> list[str]:
    """Warnings that belong to the figures."""
    found = []
    if not measured.complete:
        found.append(f"not finished: {measured.progress} measured")
    if measured.machine.device == "cpu":
        found.append("computed on the CPU: says nothing about a Mac's GPU")
    if len(measured.canvases) < FEWEST:
        found.append(f"only {len(measured.canvases)} canvases: fewer than {FEWEST} are no result")
    if (share := figures["step_spread"]) > MOST_SPREAD and measured.workload.fixed:
        found.append(f"canvases differ by {share:.1%}: close other programs, or let it cool down")
    if line := too_many_steps(measured, figures["effective_steps"]):
        found.append(line)
    if components and components.overhead_share > MOST_OVERHEAD:
        found.append(
            f"waiting for parts takes {components.overhead_share:.1%} of a step: no shares shown"
        )
    if components and components.overhead_share < -MOST_OVERHEAD / 2:
        found.append("fenced steps were the faster ones: the machine is too busy for parts")
    states = [("before", measured.before), ("after", measured.after)]
    for when, state in states:
        if state and state.thermal not in (None, "ok"):
            found.append(f"thermal pressure {when} the measurement: {state.thermal}")
    if any(s and (s.power == "Battery Power" or s.low_power_mode) for _, s in states):
        found.append("on battery or in low power mode: plug in for the figures of this machine")
    return [*found, *dispatch.unused()]
