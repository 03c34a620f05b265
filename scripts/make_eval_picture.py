#!/usr/bin/env python3
"""A picture of accuracy against denoising steps, from what `eval --json` printed.

    python scripts/make_eval_picture.py before.json after.json -o accuracy.svg
    python scripts/make_eval_picture.py 4.json 8.json --labels 4bit 8bit --skill sums -o sums.svg

A line for each file: the share of right answers by steps a canvas, with its 95% intervals. Mode ar,
which has no steps, is a dashed line of the same colour. The picture is readable on light and dark.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 20, 48
LIGHT = ("#0072b2", "#b34d00", "#00784f", "#cf0048", "#736a00")
DARK = ("#56b4e9", "#ff8f45", "#2fb585", "#ff7090", "#c9b53a")
STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#1f2328}.back{fill:#ffffff}.grid{stroke:#d0d7de}.line{fill:none;stroke-width:2}"
    ".bar{stroke-width:1}.ar{stroke-width:1.5;stroke-dasharray:6 4}"
    "@media (prefers-color-scheme:dark){text{fill:#d6d6d6}.back{fill:#1e1e1e}.grid{stroke:#444c56}"
    "%s}"
)


@dataclass(frozen=True)
class Series:
    """A file's results: label, points (steps, accuracy, low, high), and mode ar's (or None)."""

    label: str
    points: tuple[tuple[int, float, float, float], ...]
    ar: float | None


def main() -> None:
    args = arguments()
    labels = args.labels or [file.stem for file in args.results]
    if len(labels) != len(args.results):
        sys.exit(f"{len(labels)} labels for {len(args.results)} files, expected one each.")
    if len(args.results) > len(LIGHT):
        sys.exit(f"{len(args.results)} files, expected at most {len(LIGHT)}.")
    files = zip(labels, args.results, strict=True)
    series = [read(label, json.loads(f.read_text()), args.skill) for label, f in files]
    args.out.write_text(picture(series))


def read(label: str, content: dict[str, Any], skill: str | None = None) -> Series:
    """A Series from the object of `eval --json`; skill: None for all answers."""
    rows = [row for row in content["results"] if row["skill"] == skill]
    if not rows:
        sys.exit(f"{label}: no results{f' of skill {skill}' if skill else ''}.")
    points = (
        (row["steps"], row["accuracy"], *row["interval"])
        for row in rows
        if row["mode"] == "diffusion"
    )
    ar = next((row["accuracy"] for row in rows if row["mode"] == "ar"), None)
    return Series(label, tuple(sorted(points)), ar)


def picture(series: Sequence[Series]) -> str:
    """The SVG."""
    steps = sorted({point[0] for each in series for point in each.points}) or [1]
    colours = "".join(f".c{n}{{stroke:{c}}}.f{n}{{fill:{c}}}" for n, c in enumerate(LIGHT))
    dark = "".join(f".c{n}{{stroke:{c}}}.f{n}{{fill:{c}}}" for n, c in enumerate(DARK))
    title = "Right answers by denoising steps"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f"<style>{colours}{STYLE % dark}</style>",
            f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
            *axes(steps),
            *(line for n, each in enumerate(series) for line in drawn(each, n, steps)),
            "</svg>\n",
        ]
    )


def axes(steps: Sequence[int]) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = y(share)
        yield f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{share:.0%}</text>'
    for count in steps:
        at = x(count, steps)
        yield f'<text x="{at}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">steps a canvas at most</text>'


def drawn(series: Series, number: int, steps: Sequence[int]) -> Iterator[str]:
    """A line with its intervals, mode ar's, and the name, one below the other at the right."""
    path = " ".join(f"{x(count, steps)},{y(share)}" for count, share, _, _ in series.points)
    yield f'<polyline class="line c{number}" points="{path}"/>'
    for count, share, low, high in series.points:
        at = x(count, steps)
        yield f'<path class="bar c{number}" d="M{at} {y(low)}V{y(high)}"/>'
        yield f'<circle class="f{number}" cx="{at}" cy="{y(share)}" r="3.5"/>'
    if series.ar is not None:
        yield f'<path class="ar c{number}" d="M{LEFT} {y(series.ar)}H{WIDTH - RIGHT}"/>'
    name = escape(series.label) + ("" if series.ar is None else " (dashed: ar)")
    at = HEIGHT - BOTTOM - 12 - 18 * number
    yield f'<circle class="f{number}" cx="{WIDTH - RIGHT - 6}" cy="{at - 4}" r="4"/>'
    yield f'<text x="{WIDTH - RIGHT - 16}" y="{at}" text-anchor="end">{name}</text>'


def x(count: int, steps: Sequence[int]) -> float:
    """Steps on a logarithmic axis."""
    first, last = math.log(steps[0]), math.log(steps[-1])
    share = (math.log(count) - first) / (last - first) if last > first else 0.5
    return round(LEFT + 16 + share * (WIDTH - LEFT - RIGHT - 32), 1)


def y(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="of eval --json")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="[the files' names]")
    parser.add_argument("--skill", help="the results of one skill [of all answers]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
