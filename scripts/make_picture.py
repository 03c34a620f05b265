#!/usr/bin/env python3
"""The README's picture: the embedded checkpoint solving a Sudoku, as the live view shows it.

    python scripts/make_picture.py            # writes docs/denoising.svg

The picture is made as anybody can make one: `generate --trace`, then `replay --svg`. The times that
it shows are those of the machine that ran this script; it plays more slowly, since a step takes an
instant.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "denoising.svg"
PUZZLE = "4......95.5..4.831.3.21.64...8......165.3.78.97...1.5........737.4.5..6.6..8....."
SEED, STEP_SECONDS = "2", "0.8"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for arguments in commands(Path(folder) / "trace.jsonl", PICTURE):
            command = [sys.executable, "-m", "mlx_diffgemma", *arguments]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def commands(trace: Path, picture: Path) -> list[list[str]]:
    """The two commands that make the picture, by way of a trace."""
    model = ["--model", "tiny-sudoku", "--seed", SEED]
    return [
        ["generate", *model, "--trace", str(trace), PUZZLE],
        ["replay", str(trace), "--pace", STEP_SECONDS, "--svg", str(picture)],
    ]


if __name__ == "__main__":
    main()
