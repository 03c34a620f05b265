#!/usr/bin/env python3
"""Accuracy before and after a lesson, side by side, from what `eval --json` printed.

    python scripts/make_lesson_table.py FOLDER

FOLDER holds lesson-before.json, lesson-after.json, known-before.json and known-after.json, as
scripts/finetune_demo leaves them.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = ("", "n", "before", "interval", "after", "interval", "steps a canvas", "tokens a step")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what the demo has left")
    print(table(parser.parse_args().folder))


def table(folder: Path) -> str:
    """The table in Markdown, its columns aligned."""
    rows = [HEAD, *rows_of(folder)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(f"| {line} |" for line in lines)


def rows_of(folder: Path) -> Iterator[tuple[str, ...]]:
    """The rows: the lesson in every way, then all else that the model knows."""
    for name in ("lesson", "known"):
        before, after = (totals(folder / f"{name}-{when}.json") for when in ("before", "after"))
        for one, other in zip(before, after, strict=True):
            yield cells(f"{name}, {way(one)}", one, other)


def totals(path: Path) -> list[Row]:
    """Each way's result over all skills."""
    return [row for row in json.loads(path.read_text())["results"] if row["skill"] is None]


def way(row: Row) -> str:
    if row["mode"] == "ar":
        return "token by token"
    return f"{row['steps']} step{'' if row['steps'] == 1 else 's'} at most"


def cells(label: str, before: Row, after: Row) -> tuple[str, ...]:
    numbers = (after["mean_steps"], after["tokens_per_step"])
    return (
        label,
        str(before["n"]),
        *(part for row in (before, after) for part in (f"{row['accuracy']:.0%}", interval(row))),
        *("" if number is None else f"{number:.1f}" for number in numbers),
    )


def interval(row: Row) -> str:
    low, high = row["interval"]
    return f"{low:.0%} to {high:.0%}"


if __name__ == "__main__":
    main()
