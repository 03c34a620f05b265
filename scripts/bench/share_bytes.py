#!/usr/bin/env python3
"""Bytes of an answer that several processes give: as planned, as counted, as the interface saw.

    python scripts/bench/share_bytes.py --json scripts/bench/results/NAME.json      (Linux, as root)

It starts itself once more in a network namespace of its own, where nothing else sends. Ranks are
joined by MLX's ring over its loopback interface, whose counters are read around one answer: they
have headers and acknowledgements of TCP besides what was sent.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from checkpoint import Sizes, write_checkpoint
from report import environment

from mlx_diffgemma.assets import embedded_folder
from mlx_diffgemma.cli.macs.ports import own_ports
from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.model.shares import message_sizes
from mlx_diffgemma.model.text import PREFILL_CHUNK
from mlx_diffgemma.model.weights import load_network
from mlx_diffgemma.share.part import CUTS, Cut, Part
from mlx_diffgemma.share.share import Share
from mlx_diffgemma.share.traffic import answer, counted

APART = "MLX_DIFFGEMMA_APART"  # set in the namespace
RANDOM = Sizes(vocab=16_384, layers=6, canvas=64)
PROMPT = [3 + n % 17 for n in range(100)]
STEPS = 6  # of a canvas at most


def seen_bytes() -> int:
    """Bytes that the loopback interface has sent so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    fields = next(line.split() for line in lines if line.strip().startswith("lo:"))
    return int(fields[9])


def together(share: Share) -> None:
    """Wait until all ranks are here, and the last acknowledgement is sent."""
    for _ in range(2):
        mx.eval(mx.distributed.all_sum(mx.zeros((1,)), group=share.group))


def rank(folder: Path, cut: Cut) -> dict[str, Any]:
    """A rank's counts of one answer; of rank 0 also what the interface saw meanwhile."""
    share = Share.launched()
    model = load_network(folder, part=Part(share, cut)).model
    length = 2 * model.config.canvas_length
    chosen = Settings(seed=1, max_tokens=length, max_denoising_steps=STEPS)
    steps: Counter[int] = Counter()
    together(share)
    before = seen_bytes()
    for frame in denoise(model, PROMPT, chosen):
        steps[frame.canvas] += not frame.committed
    together(share)
    seen = seen_bytes() - before
    sizes = message_sizes(model.config, model.dtype.size)
    plan = answer(sizes, cut, share.size, list(steps.values()), len(PROMPT), PREFILL_CHUNK)
    share.sent.pop("word")  # of rank 0: as long as a seed has digits
    return {
        "steps": list(steps.values()),
        "counted": share.sent.total(),
        "planned": counted(plan, share.size).bytes.total(),
        "seen": seen,
    }


def run_ranks(folder: Path, cut: Cut, count: int) -> list[dict[str, Any]]:
    """The results of all ranks."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as hosts, own_ports(count) as port:
        json.dump([[f"127.0.0.1:{port + number}"] for number in range(count)], hosts)
        hosts.flush()
        command = [sys.executable, __file__, "--rank", str(folder), cut]
        started = [
            subprocess.Popen(
                command,
                env={**os.environ, "MLX_RANK": str(number), "MLX_HOSTFILE": hosts.name},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        return [json.loads(process.communicate(timeout=300)[0]) for process in started]


def rows(folders: dict[str, Path], sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row for each model, cut and number of ranks: bytes of all ranks together."""
    for name, folder in folders.items():
        for cut in CUTS:
            for count in sizes:
                found = run_ranks(folder, cut, count)
                sent = sum(each["counted"] for each in found)
                row = {
                    "model": name,
                    "share": cut,
                    "ranks": count,
                    "steps": found[0]["steps"],
                    "planned_bytes": sum(each["planned"] for each in found),
                    "counted_bytes": sent,
                    "seen_bytes": found[0]["seen"],
                    "seen_by_counted": found[0]["seen"] / sent,
                }
                print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)
                yield row


def measured(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of tiny-sudoku and of a random network."""
    sudoku = embedded_folder("tiny-sudoku")
    assert sudoku is not None
    with tempfile.TemporaryDirectory() as place:
        write_checkpoint(Path(place), RANDOM)
        return list(rows({"tiny-sudoku": sudoku, "random": Path(place)}, sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="the file to write; default: standard output")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank:
        print(json.dumps(rank(Path(given.rank[0]), given.rank[1])))
        return
    if APART not in os.environ:
        command = shlex.join([sys.executable, *sys.argv])
        apart = f"ip link set lo up && exec {command}"
        os.execvpe("unshare", ["unshare", "-n", "sh", "-c", apart], {**os.environ, APART: "1"})
    result = {
        **environment("mlx", "numpy"),
        "command": shlex.join(
            ["python", "scripts/bench/share_bytes.py", "--ranks", *map(str, given.ranks)]
        ),
        "rows": measured(given.ranks),
    }
    text = json.dumps(result, indent=1) + "\n"
    if given.json:
        given.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
