"""Both modes beside each other: what a token of mode ar costs, and which mode is the faster one."""

from collections.abc import Mapping
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from ..autoregressive.router import THINKING, Times, break_even
from ..model.roofline import bound, token_launches
from ..model.work import token_work, total
from .accounting import Accounting
from .measurement import Measurement
from .statistics import percentiles
from .tokens import Written

NO_DIFFERENCE = 0.05  # modes that are no further apart are equally fast

Figures = Mapping[str, Any]


def ar_row(
    measured: Measurement, accounting: Accounting, figures: Figures
) -> dict[str, Any] | None:
    """The figures of mode ar beside those of diffusion; None where it was not measured."""
    written = measured.written
    if written is None or not written.records:
        return None
    token_ms = percentiles([1e3 * s for record in written.records for s in record.seconds])
    seconds = [s for record in written.records for s in record.seconds]
    rate = len(seconds) / sum(seconds)
    return {
        "sampler": asdict(measured.session.model.config.token_sampler),
        "answers": len(written.records),
        "token_ms": token_ms,
        "tokens_per_second": rate,
        **_token_work(written, accounting, token_ms["p50"]),
        "rows": _rows(written),
        **break_evens(measured.session.model.config.canvas_length, figures, token_ms["p50"]),
        **_faster(measured, figures, rate),
        "answers_token_ms": [[1e3 * s for s in record.seconds] for record in written.records],
    }


def break_evens(canvas_length: int, figures: Figures, token_ms: float) -> dict[str, float]:
    """Steps of a full canvas that take as long as its tokens in mode ar, also with a thought.

    Where no canvas was committed its commit is taken for the share of a step that the router takes.
    """
    times = Times(figures["step_ms"]["p50"], token_ms, "profile", figures["commit_ms"])
    return {
        "break_even_steps": break_even(times, canvas_length, 1.0),
        "break_even_steps_thinking": break_even(times, canvas_length, THINKING),
    }


def _token_work(written: Written, accounting: Accounting, token_ms: float) -> dict[str, Any]:
    """Bytes that a token reads half-way through those measured, and the least time they take."""
    config = accounting.config
    count = 1 + median(len(record.seconds) for record in written.records)
    prefix = round(median(record.prompt_tokens for record in written.records) + count / 2)
    work = total(token_work(config, prefix, accounting.bits, item_bytes=accounting.item_bytes))
    least = bound(work, accounting.chip) if accounting.chip else None
    return {
        "prefix": prefix,
        "weight_bytes": work.weight_bytes,
        "cache_bytes": work.cache_bytes,
        "launches": token_launches(config),
        "bound_ms": least.memory_ms if least else None,
        "bound_share": least.memory_ms / token_ms if least else None,
    }


def _rows(written: Written) -> list[dict[str, Any]]:
    times = {rows: 1e3 * median(seconds) for rows, seconds in written.rows.items()}
    return [{"rows": rows, "ms": ms, "ratio": ms / times[1]} for rows, ms in times.items()]


def _faster(measured: Measurement, figures: Figures, rate: float) -> dict[str, Any]:
    """The faster mode and the quotient of their rates, prefill left out; of real answers alone.

    Fixed steps say nothing: they are those that were asked for.
    """
    ratio = figures["tokens_per_second_without_prefill"] / rate
    if measured.workload.fixed:
        return {"steps": None, "ratio": None, "faster": None}
    near = abs(ratio - 1) <= NO_DIFFERENCE
    faster = None if near else "diffusion" if ratio > 1 else "ar"
    return {"steps": mean(figures["steps_per_canvas"]), "ratio": ratio, "faster": faster}
