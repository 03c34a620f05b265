#!/usr/bin/env python3
"""The README's picture: the embedded checkpoint solving a Sudoku, as the live view shows it.

    python scripts/make_picture.py            # writes docs/denoising.svg

Made as anybody can make one: `generate --trace`, then `replay --svg`. Only the times in the trace
are replaced, so that the picture does not depend on the machine.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "denoising.svg"
PUZZLE = "4......95.5..4.831.3.21.64...8......165.3.78.97...1.5........737.4.5..6.6..8....."
SEED, STEP_SECONDS = "2", 0.7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        solve = [
            "generate",
            "--model",
            "tiny-sudoku",
            "--seed",
            SEED,
            "--trace",
            str(trace),
            PUZZLE,
        ]
        _run(*solve)
        lines = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            if line["type"] == "step":
                line |= {"seconds": STEP_SECONDS, "encode_seconds": 0.0}
        trace.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        _run("replay", str(trace), "--svg", str(PICTURE))
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", "mlx_diffgemma", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
