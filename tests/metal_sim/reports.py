"""What a sanitizer writes during a launch, in the process that was started for it."""

import os
import re
from pathlib import Path

from .compiler import Sanitizer

SANITIZER = "METAL_SIM_SANITIZER"  # environment: which one this process was started for
REPORTS = "METAL_SIM_REPORTS"  # environment: it writes to this path, a dot and the process id

# What happened, and the buffer that was missed.
TOLD = re.compile(r"(?i)(read|write) of size|runtime error:|bytes (after|before)")
# A frame of the kernel: the names of the simulator's own files have a dot.
FRAME = re.compile(r"\s*#\d+ .*[ /](?!launcher)([\w-]+:\d+:\d+)")


def inherited() -> Sanitizer | None:
    """The sanitizer that this process was started for."""
    value = os.environ.get(SANITIZER)
    return value if value in ("address", "thread") else None  # type: ignore[return-value]


def report_file() -> Path | None:
    """The file that the sanitizer of this process writes to."""
    prefix = os.environ.get(REPORTS)
    return Path(f"{prefix}.{os.getpid()}") if prefix else None


def reported(file: Path | None) -> str:
    """What is in it so far."""
    return file.read_text(encoding="utf-8") if file and file.exists() else ""


def digest(report: str) -> str:
    """The lines of a report's first part that say what was done, and where in the kernel."""
    kept: list[str] = []
    for line in report.splitlines():
        if frame := FRAME.match(line):
            kept.append(f"\n    at {frame.group(1)}")
        elif TOLD.search(line):
            kept.append(f"\n  {line.strip()}")
        if line.startswith("SUMMARY:"):
            break
    return "".join(kept)
