#!/usr/bin/env python3
"""Right answers of tiny-chat by skill: denoised, in one step, and token by token.

    python scripts/measure_tiny_chat.py --json scripts/bench/results/NAME.json
    python scripts/measure_tiny_chat.py --table scripts/bench/results/NAME.json

Every held-out prompt of a skill goes, as the chat template writes it, through one session with the
shipped weights: with the checkpoint's own sampler, at most 5 canvases; with one step a canvas; and
in mode ar at temperature 0. An answer counts when it is right to the character, thought, call and
end included. --unpacked takes the same numbers, unpacked to float32 once, which a CPU multiplies
faster. --json keeps what is measured, a skill at a time; of a file that is there, the skills and
ways that are measured again are replaced. --table prints the rows of the card.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent / "bench"))

import mlx.core as mx
from report import environment, progress
from tiny_chat.example import Example
from tiny_chat.skills import SKILLS, held_out, is_right

import mlx_diffgemma as dg
from mlx_diffgemma.checkpoint.files import read_object
from mlx_diffgemma.checkpoint.hub import find_model

WAYS: dict[str, dict[str, Any]] = {
    "denoised": {},
    "one step": {"max_denoising_steps": 1},
    "autoregressive": {"mode": "ar", "temperature": 0.0},
}
MAX_TOKENS = 320  # five canvases
WEIGHTS = "model.safetensors"
Row = dict[str, dict[str, float]]


def main() -> None:
    args = arguments()
    if args.table:
        print(table(json.loads(args.table.read_text())["skills"]))
        return
    folder = find_model("tiny-chat").folder
    with unpacked(folder) if args.unpacked else nullcontext(folder) as used:
        session = dg.load(used)
    content = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    content.setdefault("runs", []).append(
        {
            "command": shlex.join(["scripts/measure_tiny_chat.py", *sys.argv[1:]]),
            "weights": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
            "quantization": session.info.quantization,
            **environment("mlx", "mlx-diffgemma", "numpy"),
        }
    )
    rows: dict[str, Row] = content.setdefault("skills", {})
    for skill in args.skills:
        began, examples = time.perf_counter(), held_out(skill, args.number)
        for way in args.ways:
            rows.setdefault(skill, {})[way] = measure(session, examples, way, args.wrong)
            if args.json:
                args.json.write_text(json.dumps(content, indent=1) + "\n")
        progress(f"{line(skill, rows[skill])}  {time.perf_counter() - began:.0f} s")
    print(table(rows))


@contextmanager
def unpacked(folder: Path) -> Iterator[Path]:
    """A copy of the checkpoint with every matrix as the float32 numbers that it stands for.

    Names are those of a Hugging Face folder, where experts are no modules with a weight.
    """
    config = read_object(folder / "config.json")
    packing = config.pop("quantization")
    stored = cast(dict[str, mx.array], mx.load(str(folder / WEIGHTS)))
    tensors = {}
    for name, tensor in stored.items():
        module, _, kind = name.rpartition(".")
        if f"{module}.scales" in stored and kind == "weight":
            # in float16, as they are stored, the products would be rounded
            scales, biases = (
                stored[f"{module}.{part}"].astype(mx.float32) for part in ("scales", "biases")
            )
            plain = mx.dequantize(tensor, scales, biases, **packing)
            tensors[module if ".experts." in name else name] = plain
        elif kind not in ("scales", "biases"):
            tensors[name] = tensor.astype(mx.float32)
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(folder, Path(scratch) / "unpacked")
        mx.save_safetensors(str(copy / WEIGHTS), tensors, {"format": "mlx"})
        (copy / "config.json").write_text(json.dumps(config))
        yield copy


def measure(
    session: dg.Session, examples: Sequence[Example], way: str, wrong: int
) -> dict[str, float]:
    """Right answers in one way, with canvases, steps and tokens of all; prints `wrong` mistakes."""
    totals: dict[str, float] = {
        "n": len(examples),
        "right": 0,
        "canvases": 0,
        "steps": 0,
        "tokens": 0,
    }
    for seed, example in enumerate(examples):
        reply, right = answer(session, example, way, seed)
        totals["right"] += right
        totals["canvases"] += reply.canvases
        totals["steps"] += sum(reply.steps)
        totals["tokens"] += reply.generated_tokens
        if not right and wrong > 0:
            wrong -= 1
            progress(f"  {way}: {reply.text!r} instead of {example.expected!r}")
    return totals


def answer(session: dg.Session, example: Example, way: str, seed: int) -> tuple[dg.Reply, bool]:
    """A reply in one of WAYS, and whether it is right."""
    settings = dg.Settings(seed=seed, max_tokens=MAX_TOKENS, **WAYS[way])
    prompt = example.prompt(session.tokenizer)
    reply = session.ask(prompt, raw=True, settings=settings)
    *text, end = session.tokenizer.decode(reply.token_ids, special=True).rpartition(example.end)
    return reply, not end and is_right(example, text[0])


HEAD = (
    *("skill", "n", "denoised", "canvases", "steps", "tokens a step", "one step"),
    "autoregressive",
)


def cells(row: Row) -> list[float]:
    """n, share, canvases an answer, steps a canvas, tokens a step, and the other two shares."""
    one, step, token = (row[way] for way in WAYS)
    return [
        one["n"],
        one["right"] / one["n"],
        one["canvases"] / one["n"],
        one["steps"] / one["canvases"],
        one["tokens"] / one["steps"],
        step["right"] / step["n"],
        token["right"] / token["n"],
    ]


def table(rows: dict[str, Row]) -> str:
    """The card's rows, of the skills that are measured in all ways, and the mean of skills."""
    whole = {skill: cells(rows[skill]) for skill in rows if set(rows[skill]) == set(WAYS)}
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    lines += [_line(skill, f"{values[0]:.0f}", values) for skill, values in whole.items()]
    if whole:
        means = [statistics.mean(column) for column in zip(*whole.values(), strict=True)]
        lines.append(_line("mean of skills", "", means))
    return "\n".join(lines)


def _line(name: str, n: str, values: Sequence[float]) -> str:
    right, one_step, token = (f"{values[i]:.0%}" for i in (1, 5, 6))
    between = [f"{value:.1f}" for value in values[2:5]]
    return f"| {' | '.join([name, n, right, *between, one_step, token])} |"


def line(skill: str, row: Row) -> str:
    shares = (f"{way} {row[way]['right']:.0f}/{row[way]['n']:.0f}" for way in WAYS if way in row)
    return f"{skill}: {', '.join(shares)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--skills", nargs="+", choices=SKILLS, default=SKILLS, metavar="SKILL")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=tuple(WAYS), help="[all]")
    parser.add_argument("--unpacked", action="store_true", help="compute with float32 matrices")
    parser.add_argument("--number", type=int, default=100, help="prompts a skill at most [100]")
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers to show a skill [0]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to keep the figures in")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the rows of a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
