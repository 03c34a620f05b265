#!/usr/bin/env python3
"""What a form adds to a denoising step on this machine: random logits, a whole vocabulary.

    python scripts/bench/forms_step.py TOKENIZER SCHEMA... --json scripts/bench/results/NAME.json

TOKENIZER: the folder that scripts/gemma_tokenizer.py made. Rows of logits are read as MLX's
operations read them, so many at a time as a step would. In milliseconds of processor time, medians:
what a free step makes of its logits; the first half under a form (records and class masses); the
host's pass; the second half (argmax, entropy, draw); and the likeliest way at a canvas's end.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from report import environment, progress

from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.form import compiled, form_of
from mlx_diffgemma.constrain.machine import Machine
from mlx_diffgemma.constrain.tables import vocabulary_of
from mlx_diffgemma.constrain.vocabulary import Vocabulary
from mlx_diffgemma.diffusion.classes import class_order
from mlx_diffgemma.diffusion.held import Held, Masses
from mlx_diffgemma.diffusion.predictions import Predictions, predict, read_by_class
from mlx_diffgemma.diffusion.sampler import Logits
from mlx_diffgemma.text.token_bytes import token_bytes
from mlx_diffgemma.text.tokenizer import load_tokenizer

VOCAB, CANVAS, CAP, TEMPERATURE = 262_144, 256, 30.0, 0.6
END, PAD = 1, 0


@dataclass(frozen=True)
class Canvas:
    """Random logits of 256 rows, so many rows a part, and uniforms to draw with."""

    parts: list[Logits]
    rows: list[slice]
    uniforms: mx.array

    @staticmethod
    def of(rows_at_a_time: int) -> "Canvas":
        raw = 8 * mx.random.normal((CANVAS, VOCAB), key=mx.random.key(0)).astype(mx.bfloat16)
        uniforms = mx.random.uniform(1e-6, 1, (CANVAS, 2), key=mx.random.key(1))
        rows = [slice(first, first + rows_at_a_time) for first in range(0, CANVAS, rows_at_a_time)]
        parts = [Logits(raw[own], CAP, TEMPERATURE) for own in rows]
        mx.eval(uniforms, [part.raw for part in parts])
        return Canvas(parts, rows, uniforms)

    def free(self) -> None:
        """The sample of a free step."""
        for part, own in zip(self.parts, self.rows, strict=True):
            _evaluate(predict(part, self.uniforms[own], in_kernels=False))

    def first_half(self, held: Held) -> Masses:
        """Records and class masses, on the host."""
        read = []
        for part in self.parts:
            read.append(read_by_class(part, held.order, in_kernels=False))
            mx.eval(read[-1].arrays)
        return Masses(held, read, in_kernels=False)

    def second_half(self, masses: Masses) -> None:
        """The sample of what the form leaves; the bias is known."""
        for number, own in enumerate(self.rows):
            _evaluate(masses.predict(number, own, self.uniforms[own]))


def _evaluate(seen: Predictions) -> None:
    mx.eval(seen.best, seen.entropy, seen.drawn)


def main() -> None:
    args = arguments()
    vocabulary = vocabulary_of(token_bytes(load_tokenizer(args.tokenizer), VOCAB))
    canvas = Canvas.of(args.rows)
    content: dict[str, Any] = {
        "command": shlex.join(["scripts/bench/forms_step.py", *sys.argv[1:]]),
        **environment("mlx", "mlx-diffgemma", "numpy"),
        "free_ms": milliseconds(args.times, canvas.free),
        "forms": [],
    }
    progress(f"free: {content['free_ms']} ms")
    for file in args.schemas:
        figures = measured(args.times, canvas, machine_of(file, vocabulary))
        content["forms"].append({"form": file.stem, **figures})
        progress(f"{file.stem}: {figures}")
    for name, value in content.items():
        print(f"{name}: {value}")
    if args.json:
        args.json.write_text(json.dumps(content, indent=1) + "\n")


def machine_of(file: Path, vocabulary: Vocabulary) -> Machine:
    form = form_of(schema=json.loads(file.read_text()))
    assert form is not None
    return compiled(form, vocabulary, (END,), (END, PAD))


def measured(times: int, canvas: Canvas, machine: Machine) -> dict[str, Any]:
    """Sizes of a form, and medians in milliseconds."""
    constraint = Constraint(machine, CANVAS)
    held = Held(constraint, class_order(constraint.classes, constraint.num_classes))
    masses = canvas.first_half(held)
    log_mass = masses.log_mass

    def commit() -> None:
        Masses(Held(Constraint(machine, CANVAS), held.order), masses.parts, False).commit()

    return {
        "classes": machine.num_classes,
        "blocks": held.order.ids.shape[0],
        "strain": round(masses.strain, 1),
        "first_half_ms": milliseconds(times, lambda: canvas.first_half(held)),
        "host_pass_ms": milliseconds(times, lambda: held.bias(log_mass)),
        "second_half_ms": milliseconds(times, lambda: canvas.second_half(masses)),
        "commit_ms": milliseconds(times, commit),
    }


def milliseconds(times: int, work: Callable[[], object]) -> float:
    """The median processor time of some work, which ran once before."""
    work()
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return round(1000 * statistics.median(taken), 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tokenizer", type=Path, help="folder of scripts/gemma_tokenizer.py")
    parser.add_argument("schemas", type=Path, nargs="+", help="files with JSON schemas")
    parser.add_argument("--rows", type=int, default=16, help="rows read at a time [16]")
    parser.add_argument("--times", type=int, default=5, help="measurements of each [5]")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
