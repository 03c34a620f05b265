#!/usr/bin/env python3
"""Accuracy against the canvases that an adapter was trained on, and a picture of it.

    python scripts/bench/lesson_curve.py RUN... --data FILE --json scripts/bench/results/NAME.json
    python scripts/bench/lesson_curve.py --picture scripts/bench/results/NAME.json -o docs/NAME.svg

RUN is a saved state of a run of `finetune`: OUT/states/000100 or a copy of it, or - for the model
before. Each answers the questions denoised, with the checkpoint's steps at most, in one step, and
token by token, through `mlx-diffgemma eval`. A state of a file that is there is not measured again.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from report import environment, progress

BEFORE = Path("-")
WAYS = {"denoised": ["--steps", "48"], "one step": ["--steps", "1"], "token by token": []}
AR = ["--mode", "ar", "--temperature", "0"]
COLOURS = {"denoised": "#b8791e", "one step": "#8c959f", "token by token": "#3b78b8"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 330, 56, 130, 20, 48


def main() -> None:
    args = arguments()
    if args.picture:
        args.output.write_text(picture(json.loads(args.picture.read_text())))
        return
    content = json.loads(args.json.read_text()) if args.json.exists() else {}
    content |= {
        "command": shlex.join(["scripts/bench/lesson_curve.py", *sys.argv[1:]]),
        "training": args.training,
        **environment("mlx", "mlx-diffgemma", "numpy"),
    }
    points: list[dict[str, Any]] = content.setdefault("points", [])
    known = {point["step"] for point in points}
    for run in args.runs:
        step = 0 if run == BEFORE else int(run.name)
        if step not in known:
            point = {"step": step, "canvases": step * args.canvases} | measured(args, run)
            points.append(point)
            points.sort(key=lambda point: int(point["step"]))
            args.json.write_text(json.dumps(content, indent=1) + "\n")
            progress(line(point))


def measured(args: argparse.Namespace, run: Path) -> dict[str, Any]:
    """The results of every way, without the numbers that are the same in all of them."""
    adapter = [] if run == BEFORE else ["--adapter", str(run)]
    given = ["--model", args.model, *adapter, "--data", str(args.data), "--max-tokens", "64"]
    found = {}
    for name, own in WAYS.items():
        command = ["eval", *given, *(own or AR), "--json"]
        ran = subprocess.run(
            [sys.executable, "-m", "mlx_diffgemma", *command], check=True, stdout=subprocess.PIPE
        )
        (row,) = (each for each in json.loads(ran.stdout)["results"] if each["skill"] is None)
        found[name] = {key: row[key] for key in ("n", "correct", "interval", "mean_steps")}
    return found


def line(point: dict[str, Any]) -> str:
    shares = (f"{name} {share(point[name]):.0%}" for name in WAYS)
    return f"{point['canvases']:>6,} canvases: {', '.join(shares)}"


def share(row: dict[str, Any]) -> float:
    return float(row["correct"] / row["n"])


# --- the picture


def picture(content: dict[str, Any]) -> str:
    """An SVG of 720 x 330: a line for each way, its intervals as bands."""
    points = content["points"]
    most = points[-1]["canvases"]
    body = [*axes(most)]
    ends = spread([share(points[-1][name]) for name in WAYS])
    for (name, colour), end in zip(COLOURS.items(), ends, strict=True):
        body += series([(point["canvases"], point[name]) for point in points], most, colour)
        body.append(text(WIDTH - RIGHT + 8, y(end) + 4, name, f'fill="{colour}"'))
    title = "Accuracy on held-out questions against canvases trained on"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{title}</title>\n<style>\n{STYLE}</style>\n'
        + "\n".join([f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>', *body])
        + "\n</svg>\n"
    )


STYLE = """text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}
text{fill:#57606a}
.page{fill:#ffffff}
.grid{stroke:#d0d7de;stroke-width:1}
@media (prefers-color-scheme: dark){
.page{fill:#0d1117}
.grid{stroke:#30363d}
text{fill:#9198a1}
}
"""


def x(canvases: float, most: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * canvases / most, 1)


def y(accuracy: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - accuracy), 1)


def axes(most: int) -> Iterator[str]:
    for percent in range(0, 101, 20):
        at = y(percent / 100)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        yield text(LEFT - 8, at + 4, f"{percent}%", 'text-anchor="end"')
    for canvases in range(0, most + 1, 4000 if most > 8000 else 1000):
        yield text(x(canvases, most), HEIGHT - BOTTOM + 20, f"{canvases:,}", CENTRED)
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "canvases trained on", CENTRED)


CENTRED = 'text-anchor="middle"'


def series(points: Sequence[tuple[int, dict[str, Any]]], most: int, colour: str) -> Iterator[str]:
    """The band of the intervals, the line and its points."""
    low, high = (
        [f"{x(at, most)},{y(row['interval'][end])}" for at, row in points] for end in (0, 1)
    )
    yield f'<polygon points="{" ".join([*high, *reversed(low)])}" fill="{colour}" opacity="0.12"/>'
    places = [(x(at, most), y(share(row))) for at, row in points]
    joined = " ".join(f"{a},{b}" for a, b in places)
    yield f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for a, b in places:
        yield f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>'


def spread(ends: Sequence[float], apart: float = 0.07) -> list[float]:
    """The heights of labels, moved so that none is over another."""
    placed: dict[int, float] = {}
    for number in sorted(range(len(ends)), key=lambda n: ends[n]):
        below = max(placed.values(), default=-1.0)
        placed[number] = max(ends[number], below + apart)
    return [placed[number] for number in range(len(ends))]


def text(at: float, height: float, content: str, more: str) -> str:
    return f'<text x="{at}" y="{height}" {more}>{content}</text>'


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved states, - before")
    parser.add_argument("--model", default="tiny-chat", help="[tiny-chat]")
    parser.add_argument("--data", type=Path, metavar="FILE", help="the questions")
    parser.add_argument("--canvases", type=int, default=16, help="canvases a step [16]")
    parser.add_argument("--training", help="the command that made the states, to be kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to keep the figures in")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="figures to draw")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the picture's file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
