"""The words of `finetune`: a step, the end, notes on the data."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

from ...errors import counted
from ...finetune.data.examples import Examples
from ...finetune.train import Progress, Training
from ...model.memory import sized


def step_line(progress: Progress) -> str:
    """A finished step in one line."""
    return f"step {progress.step:,} of {progress.steps:,}: {numbers(progress)}"


def numbers(progress: Progress) -> str:
    """The losses, the speed and the memory of a step."""
    valid = "" if progress.valid_loss is None else f", valid {progress.valid_loss:.3f}"
    return (
        f"loss {progress.loss:.3f} (decoder {progress.decoder_loss:.3f}, encoder "
        f"{progress.encoder_loss:.3f}{valid}), {progress.tokens_per_second:,.0f} tokens/s, "
        f"{sized(progress.peak_memory_bytes)}"
    )


def label(progress: Progress) -> str:
    """The same in few columns, for the bar."""
    return (
        f"loss {progress.loss:.2f} ({progress.decoder_loss:.2f} + {progress.encoder_loss:.2f}) "
        f"{progress.tokens_per_second:,.0f} tokens/s {sized(progress.peak_memory_bytes)}"
    )


def end_json(training: Training, out: Path, *, full: bool) -> dict[str, Any]:
    """The last object of `finetune --json`."""
    state = training.state
    there = str(out) if state.step else None
    return {
        "steps": state.step,
        "best_loss": state.lowest,
        "adapter": None if full else there,
        "checkpoint": there if full else None,
        "best_step": state.best_step,
        "finished": state.step >= training.recipe.steps,
    }


def end_lines(training: Training, out: Path, model: str, *, full: bool) -> Iterator[str]:
    """The end of a run, and what to try next."""
    state, place, named = training.state, quote(str(out)), quote(model)
    lowest = "" if state.lowest is None else f", the lowest loss of a step {state.lowest:.3f}"
    best = "" if state.best_step is None else f", the best state that of step {state.best_step:,}"
    yield f"trained  {counted(state.step, 'step')}{lowest}{best}"
    if full:
        yield f"written  {out}, a checkpoint in float32"
        yield f'try it   mlx-diffgemma generate --model {place} "..."'
        yield f"pack it  mlx-diffgemma convert {place} {quote(f'{out}-4bit')}"
        return
    yield f"adapter  {out}"
    yield f'try it   mlx-diffgemma generate --model {named} --adapter {place} "..."'
    fused = quote(f"{out}-fused")
    yield f"fuse it  mlx-diffgemma fuse --model {named} --adapter {place} {fused}"


def notes(examples: Examples) -> Iterator[str]:
    """Notes on what a file holds beside the examples that are trained on."""
    counts = {
        "blank": (examples.blank, "blank line", "left out"),
        "multi_turn": (examples.multi_turn, "example", "with several answers, of which the last"),
        "cut": (examples.cut, "example", "cut at a canvas"),
        "dropped": (examples.dropped, "example", "dropped, whose prompt is too long"),
    }
    for count, noun, what in counts.values():
        if count:
            more = " is learned" if what.endswith("last") else ""
            yield f"{examples.file}: {counted(count, noun)} {what}{more}."
    for key, count in examples.unused.items():
        yield f"{examples.file}: {counted(count, 'line')} with the key {key!r}, which is not used."
