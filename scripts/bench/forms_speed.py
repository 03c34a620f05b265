#!/usr/bin/env python3
"""The time to compile forms of answers, and that of a constrained step on the host.

    python scripts/bench/forms_speed.py --tokenizer FOLDER --json scripts/bench/results/NAME.json

The ten schemas of tests/data/schemas with the vocabulary of a tokenizer, nothing read from disk.
Compiling: schema to automaton, classes of tokens, machine with its lattice. A step: forward and
backward over a canvas of random class masses; a commit: the likeliest way. Seconds and milliseconds
of processor time, every sample; the schemas take turns.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from report import environment

from mlx_diffgemma.constrain.classes import token_classes
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.constrain.dfa import compile_pattern
from mlx_diffgemma.constrain.form import form_of
from mlx_diffgemma.constrain.lattice import Lattice
from mlx_diffgemma.constrain.machine import Controls, Machine, machine
from mlx_diffgemma.constrain.vocabulary import Vocabulary, digest_of, trie_of
from mlx_diffgemma.text.token_bytes import token_bytes
from mlx_diffgemma.text.tokenizer import load_tokenizer

SCHEMAS = Path(__file__).parents[2] / "tests" / "data" / "schemas"
STOPS, FILLERS = (1, 106), (0, 1, 106)
LEFT = 10_000  # tokens: more than a canvas, so that any state may stand at its end
Result = TypeVar("Result")


def timed(times: list[float], call: Callable[[], Result], scale: float = 1.0) -> Result:
    """What a call returns; its processor time joins `times`."""
    began = time.process_time()
    result = call()
    times.append(round((time.process_time() - began) * scale, 5))
    return result


def masses(num_classes: int, canvas: int) -> NDArray[np.float64]:
    """Class masses [canvas, K] over many magnitudes."""
    rng = np.random.default_rng(0)
    logs = -rng.uniform(0, 80, (canvas, num_classes)) * rng.random((canvas, 1))
    mass: NDArray[np.float64] = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    return mass


def measure(schema: Any, vocabulary: Vocabulary, canvas: int, row: dict[str, Any]) -> None:
    """One round of a schema: its samples join `row`."""
    form = form_of(schema=schema)
    assert form is not None
    dfa = timed(row["dfa_seconds"], lambda: compile_pattern(form.pattern))
    found = timed(row["classes_seconds"], lambda: token_classes(vocabulary.trie, dfa))
    controls = Controls(STOPS, FILLERS)

    def whole() -> tuple[Machine, Lattice]:
        made = machine(vocabulary, dfa, found, controls)
        return made, Lattice(made)

    made, lattice = timed(row["machine_seconds"], whole)
    end = made.distance <= LEFT - canvas
    mass = masses(made.num_classes, canvas)
    forward = timed(row["forward_ms"], lambda: lattice.forward(mass, made.start, end), 1e3)
    timed(row["backward_ms"], lambda: lattice.factors(forward), 1e3)
    timed(row["commit_ms"], lambda: lattice.best(np.log(lattice.sums(mass)), made.start, end), 1e3)
    rule, logs = Constraint(made, LEFT), np.log(mass)
    timed(row["bias_ms"], lambda: rule.bias(logs), 1e3)
    row |= {
        "states": dfa.num_states,
        "classes": made.num_classes,
        "edges": len(made.source),
        "pairs": len(lattice.source),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--canvas", type=int, default=256, help="positions; default 256")
    parser.add_argument("--rounds", type=int, default=3, help="of each schema; default 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the samples go")
    given = parser.parse_args()
    once: dict[str, list[float]] = {"texts_seconds": [], "trie_seconds": []}
    tokenizer = load_tokenizer(given.tokenizer)
    texts = timed(once["texts_seconds"], lambda: token_bytes(tokenizer, tokenizer.vocab_size))
    trie = timed(once["trie_seconds"], lambda: trie_of(texts))
    vocabulary = Vocabulary(tuple(texts), digest_of(texts), trie)
    schemas = {f.stem: json.loads(f.read_text()) for f in sorted(SCHEMAS.glob("*.json"))}
    steps = ("dfa_seconds", "classes_seconds", "machine_seconds")
    parts = ("forward_ms", "backward_ms", "commit_ms", "bias_ms")
    rows: dict[str, dict[str, Any]] = {n: {p: [] for p in (*steps, *parts)} for n in schemas}
    for _ in range(given.rounds):
        for name, schema in schemas.items():
            measure(schema, vocabulary, given.canvas, rows[name])
    for name, row in rows.items():
        least = "  ".join(f"{part} {min(row[part]):.3g}" for part in (*steps, *parts))
        print(f"{name:13} {row['states']:5} states {row['classes']:4} classes  {least}")
    if given.json:
        about = {"command": shlex.join(sys.argv), **environment("numpy", "mlx-diffgemma")}
        result = {**about, "canvas": given.canvas, "once": once, "forms": rows}
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
