#!/usr/bin/env python3
"""The table of docs/benchmarks.md, from the profiles in scripts/bench/results.

    scripts/bench/table [--check]

A profile is a file written by `mlx-diffgemma profile --json`; other results are passed over. A
profile that is not whole stops the script: no row is better than a wrong one.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlx_diffgemma.profile.comparison import read_profile

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "scripts" / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- table: scripts/bench/table writes it -->", "<!-- end of the table -->"

HEAD = (
    "machine",
    "model and weights",
    "workload",
    "step, ms (p10 - p90)",
    "prefill, tokens/s",
    "tokens a step",
    "tokens/s",
    "of the bound",
    "peak",
    "versions",
    "file",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail where it would")
    args = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    wanted = filled(text, profiles(RESULTS))
    if args.check and wanted != text:
        sys.exit("error: docs/benchmarks.md is not what the results say; run scripts/bench/table.")
    if not args.check:
        PAGE.write_text(wanted, encoding="utf-8")


def profiles(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and content of every profile in a folder: GPUs first, then by model and machine."""
    found = []
    for file in sorted(folder.glob("*.json")):
        if "schema_version" in json.loads(file.read_text(encoding="utf-8")):
            found.append((file.name, read_profile(file)))
    return sorted(found, key=_rank)


def filled(page: str, found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """The page with the table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"error: docs/benchmarks.md lacks {BEGIN} or {END}; put them back.")
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"


def table(found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A Markdown table, a row a profile."""
    rows = [HEAD, ["---"] * len(HEAD), *(list(_cells(name, value)) for name, value in found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rank(entry: tuple[str, dict[str, Any]]) -> tuple[bool, str, str, str]:
    name, value = entry
    machine = value["machine"]
    return machine["device"] != "gpu", value["model"]["name"], str(machine["chip"]), name


def _cells(name: str, value: dict[str, Any]) -> Iterator[str]:
    machine, model, workload = value["machine"], value["model"], value["workload"]
    cores = f", {machine['gpu_cores']} GPU cores" if machine["gpu_cores"] else ""
    where = "" if machine["device"] == "gpu" else "**CPU**: "
    yield f"{where}{machine['chip'] or 'unknown'}{cores}"
    packings = sorted({packing for names in model["quantization"].values() for packing in names})
    yield f"{model['name']}, {' + '.join(packings)}, in {model['dtype']}, {model['kernels']}"
    steps = f"{workload['steps']} steps" if workload["steps"] else "adaptive"
    yield f"{steps}, {workload['canvases']} x {model['canvas_length']} behind " + (
        f"{workload['prompt_tokens']:,.0f}"
    )
    step = value["step_ms"]
    noise = f", canvases {value['step_spread']:.0%} apart" if value["step_spread"] > 0.05 else ""
    yield f"{step['p50']:.4g} ({step['p10']:.4g} - {step['p90']:.4g}{noise})"
    yield f"{value['prefill_tokens_per_second']:,.0f}"
    adaptive = workload["kind"] == "adaptive"
    yield f"{value['tokens_per_step']:.2f}" if adaptive else "fixed"
    yield f"{value['tokens_per_second']:.4g}" if adaptive else ""
    yield f"{value['bound']['share']:.0%}" if value["bound"] else ""
    yield f"{value['peak_memory_bytes'] / 1e9:.2f} GB"
    yield f"{value['version']}, MLX {machine['versions']['mlx']}, {machine['system']}"
    yield f"[{name.removesuffix('.json')}](../scripts/bench/results/{name})"


if __name__ == "__main__":
    main()
