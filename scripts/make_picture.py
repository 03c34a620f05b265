#!/usr/bin/env python3
"""The README's picture: tiny-chat telling a story over three canvases, as the live view shows it.

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
PROMPT = "Tell me a story about an owl"
SEED, STEP_SECONDS = "12", "0.4"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for arguments in commands(Path(folder) / "trace.jsonl", PICTURE):
            command = [sys.executable, "-m", "mlx_diffgemma", *arguments]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def commands(trace: Path, picture: Path) -> list[list[str]]:
    """The two commands that make the picture, by way of a trace."""
    model = ["--model", "tiny-chat", "--seed", SEED]
    return [
        ["generate", *model, "--trace", str(trace), PROMPT],
        ["replay", str(trace), "--pace", STEP_SECONDS, "--svg", str(picture)],
    ]


if __name__ == "__main__":
    main()
