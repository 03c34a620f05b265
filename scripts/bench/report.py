"""Samples of two engines, side by side: a table to print, and JSON to keep."""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One quantity, measured in turn in both engines: samples of one index belong together."""

    name: str
    unit: str
    theirs: tuple[float, ...]
    ours: tuple[float, ...]
    target: float  # what theirs / ours should reach

    def ratios(self) -> list[float]:
        return [theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=True)]

    def row(self) -> list[str]:
        ratios = self.ratios()
        met = "yes" if statistics.median(ratios) >= self.target else "NO"
        return [
            f"{self.name} [{self.unit}]",
            _spread(self.theirs),
            _spread(self.ours),
            _spread(ratios),
            f"{self.target:.2f}",
            met,
        ]


def table(figures: Sequence[Figure], peer: str = "mlx-vlm") -> str:
    """Medians with (least - most), a line a figure; peer: the name of the other engine."""
    head = ["figure", peer, "mlx-diffgemma", "theirs / ours", "target", "met"]
    rows = [head, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _spread(values: Sequence[float]) -> str:
    middle = _short(statistics.median(values))
    if min(values) == max(values):
        return middle
    return f"{middle} ({_short(min(values))} - {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def environment(*packages: str) -> dict[str, Any]:
    """The machine and the versions behind a run."""
    return {
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "numpy_threads": os.environ.get("OPENBLAS_NUM_THREADS", "unset"),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in packages},
        },
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_json(file: Path, content: dict[str, Any], figures: Sequence[Figure]) -> None:
    kept = [{**asdict(figure), "ratios": figure.ratios()} for figure in figures]
    file.write_text(json.dumps({**content, "figures": kept}, indent=1) + "\n")
