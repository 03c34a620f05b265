#!/usr/bin/env python3
"""The README's picture: the embedded checkpoint solving a Sudoku, as the live view shows it.

    python scripts/make_picture.py            # writes docs/denoising.svg

The picture is made as anybody can make one: `generate --trace`, then `replay --svg`. Its times are
those of the machine that ran this script; it plays more slowly, since a step takes an instant.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "denoising.svg"
PUZZLE = "4......95.5..4.831.3.21.64...8......165.3.78.97...1.5........737.4.5..6.6..8....."
SEED, SPEED = "2", "0.05"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trace = str(Path(folder) / "trace.jsonl")
        _run("generate", "--model", "tiny-sudoku", "--seed", SEED, "--trace", trace, PUZZLE)
        _run("replay", trace, "--speed", SPEED, "--svg", os.fspath(PICTURE))
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", "mlx_diffgemma", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
