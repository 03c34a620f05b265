"""The table of `eval` for people: aligned lines, fit for a file or a pipe too."""

from collections.abc import Iterator

from ...errors import counted
from ...finetune.evaluation.accuracy import Tally
from ...finetune.evaluation.evaluate import Scores, Way

WIDEST = 1000  # columns of a table, which is as wide as its contents
ALL = "all"


def lines(scores: Scores, cases: int) -> Iterator[str]:
    """The table, and the meaning of its intervals."""
    yield from table(scores)
    seen = len(scores.whole.cases)
    of = f" of {cases:,}" if seen < cases else ""
    yield f"95% intervals over {seen:,}{of} {counted(max(seen, 2), 'case').partition(' ')[2]}."


def table(scores: Scores) -> list[str]:
    """A row for each way and skill; the column of skills only where there are some."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = list(scores.rows())
    skilled = any(skill is not None for _, skill, _ in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("mode", "steps", *(["skill"] if skilled else [])):
        table.add_column(name, justify="right" if name == "steps" else "left")
    for name in ("right", "of", "accuracy", "interval", "steps a canvas", "tokens a step"):
        table.add_column(name, justify="right")
    for number, (way, skill, tally) in enumerate(rows):
        last = number + 1 < len(rows) and rows[number + 1][0] is not way
        named = [skill or ALL] if skilled else []
        table.add_row(way.mode, _steps(way), *named, *_figures(tally), end_section=last and skilled)
    console = Console(width=WIDEST, color_system=None, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def _steps(way: Way) -> str:
    return "" if way.steps is None else f"{way.steps:,}"


def _figures(tally: Tally) -> tuple[str, ...]:
    low, high = tally.interval
    return (
        f"{tally.correct:,}",
        f"{tally.n:,}",
        f"{tally.accuracy:.1%}",
        f"{low:.1%} to {high:.1%}",
        "" if tally.mean_steps is None else f"{tally.mean_steps:.1f}",
        "" if tally.tokens_per_step is None else f"{tally.tokens_per_step:.1f}",
    )
