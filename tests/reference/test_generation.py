"""Whole generations against the reference's own `generate`, token for token, on the same noise.

On the small initialiser only: with lively weights self-conditioning amplifies rounding until
another expert is chosen, and the reference leaves its own float64 run. Small residuals and a large
final norm make a network that denoises: more is accepted from step to step until a canvas settles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is absent: no generation was compared")

from checkpoints import Sizes, uniform, write_checkpoint
from compare import assert_close
from injected import InjectedNoise, injected_noise
from oracle import Oracle, Trace

import mlx_diffgemma as dg

pytestmark = pytest.mark.reference

ENTROPY = 5e-5  # nats; 2e-5 is what the cases below reach
SAMPLER = {
    "max_denoising_steps": 10,
    "entropy_bound": 3.0,
    "t_min": 0.4,
    "t_max": 0.8,
    "stability_threshold": 1,
    "confidence_threshold": 0.005,
}


LONG = {"max_denoising_steps": 16}


@dataclass(frozen=True)
class Case:
    """A checkpoint, a prompt's length and what differs from SAMPLER."""

    sizes: Sizes
    prompt: int = 21
    canvases: int = 3
    sampler: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return {**SAMPLER, "max_tokens": self.canvases * self.sizes.canvas_length, **self.sampler}


def case(prompt: int = 21, sampler: Mapping[str, Any] | None = None, **sizes: Any) -> Case:
    base = {"std": 0.03, "residual": 0.3, "sharpness": 8.0, "canvas_length": 12, **sizes}
    return Case(Sizes(**base), prompt, sampler=sampler or {})


CASES = {
    "base": case(),
    "another seed": case(seed=3),
    "small bound": case(sampler={"entropy_bound": 0.1}),
    "bound that accepts all": case(sampler={"entropy_bound": 1000.0}),
    "wide range of temperatures": case(sampler={"t_min": 0.0, "t_max": 1.2}),
    "one step": case(sampler={"max_denoising_steps": 1}),
    "stops when stable": case(sampler={**LONG, "confidence_threshold": 1.0}),
    "stops when twice stable": case(
        sampler={**LONG, "confidence_threshold": 1.0, "stability_threshold": 2}, residual=0.2
    ),
    "stops when confident": case(
        sampler={**LONG, "confidence_threshold": 0.5, "stability_threshold": 0}
    ),
    "default sampler": case(
        residual=0.2, sharpness=20.0, sampler={"max_denoising_steps": 48, "entropy_bound": 0.1}
    ),
    "never settles": case(residual=1.0, sharpness=15.0),
    "tokens that fill no canvas": case(sampler={"max_tokens": 29}),
    "less than a canvas": case(sampler={"max_tokens": 5}),
    "canvas longer than the window": case(canvas_length=24, sliding_window=6, prompt=40),
    "prompt of one": case(prompt=1),
    "one expert": case(num_experts=1, top_k_experts=1),
    "all layers full": case(layers="ff"),
    "twelve layers": case(layers="ssssfssssfsf", spelling="per_layer", query_norm=0.3),
    "two slices of vocabulary": case(vocab_size=5000, sampler={"entropy_bound": 12.0}),
    "three slices, the last of one id": case(
        vocab_size=8193, layers="sf", sampler={"entropy_bound": 15.0}
    ),
}


@dataclass(frozen=True)
class Run:
    """Both sides of one case."""

    case: Case
    oracle: Oracle
    model: dg.Model
    noise: InjectedNoise

    @property
    def prompt(self) -> list[int]:
        return ids(self.case.prompt, self.case.sizes.vocab_size, 31)

    def reference(self, stop_ids: tuple[int, ...] = (), **start: Any) -> Trace:
        return self.oracle.generate(
            self.prompt, self.noise, stop_ids=stop_ids, **self.case.settings, **start
        )

    def frames(self, stop_ids: tuple[int, ...] = (), **start: Any) -> list[dg.Frame]:
        self.model.config = replace(self.model.config, stop_ids=stop_ids)
        settings = dg.Settings(**self.case.settings)
        arrays = {name: mx.array(array) for name, array in start.items()}
        return list(dg.denoise(self.model, self.prompt, settings, self.noise, **arrays))


def ids(count: int, vocab: int, key: int) -> list[int]:
    return np.floor((uniform((count,), key) + 1) / 2 * vocab).astype(int).tolist()


def start(folder: Path, case: Case) -> Run:
    sizes, settings = case.sizes, case.settings
    write_checkpoint(folder, sizes)
    noise = injected_noise(
        sizes.seed + 77,
        case.canvases,
        settings["max_denoising_steps"],
        sizes.canvas_length,
        sizes.vocab_size,
    )
    return Run(case, Oracle(folder), dg.load_model(folder, dtype=mx.float32), noise)


def tokens_of(frames: list[dg.Frame]) -> list[int]:
    return [token for frame in frames if frame.committed for token in frame.tokens.tolist()]


def assert_same(frames: list[dg.Frame], trace: Trace) -> None:
    """Every step's argmax canvas, acceptance and entropies, and the committed tokens."""
    steps = [frame for frame in frames if not frame.committed]
    for ours, theirs in zip(steps, trace.steps, strict=False):
        where = f"canvas {theirs.canvas}, step {theirs.step}"
        assert (ours.canvas, ours.step) == (theirs.canvas, theirs.step)
        where += f", {theirs.margin:.1e} from another outcome"
        assert_close(ours.entropies, theirs.entropies, ENTROPY, "entropies of a generation")
        assert ours.tokens.tolist() == theirs.best.tolist(), f"{where}: another argmax canvas"
        assert ours.accepted.tolist() == theirs.accepted.tolist(), f"{where}: others accepted"
    assert len(steps) == len(trace.steps)
    assert tokens_of(frames) == trace.tokens


@pytest.mark.parametrize("name", CASES)
def test_generation(name: str, tmp_path: Path) -> None:
    run = start(tmp_path, CASES[name])
    trace, frames = run.reference(), run.frames()
    assert_same(frames, trace)
    assert frames[-1].finish_reason == "length"
    assert sum(frame.committed for frame in frames) == frames[-1].canvas + 1


def test_the_cases_accept_some_and_stop_early(tmp_path: Path) -> None:
    """Else the comparison above would show little."""
    frames = start(tmp_path / "base", CASES["base"]).frames()
    shares = [frame.accepted.mean() for frame in frames if not frame.committed]
    assert min(shares) < 0.4
    assert max(shares) > 0.7
    for name, case in CASES.items():
        if name.startswith("stops") or name == "default sampler":
            steps = [f.step + 1 for f in start(tmp_path / name, case).frames() if f.committed]
            least = 2 + case.settings["stability_threshold"]
            assert least < min(steps) < case.settings["max_denoising_steps"], name


@pytest.mark.parametrize("position", [0, 5, 12, 16, 35])
def test_stop_ids(tmp_path: Path, position: int) -> None:
    """At the very first position, inside a canvas, at its beginning, and as the last token."""
    run = start(tmp_path, CASES["base"])
    stop = (run.reference().tokens[position], run.case.sizes.vocab_size - 1)
    trace, frames = run.reference(stop), run.frames(stop)
    assert_same(frames, trace)
    assert trace.tokens[-1] in stop
    assert frames[-1].finish_reason == "stop"


def test_stop_id_behind_the_budget(tmp_path: Path) -> None:
    """A stop id in the part that max_tokens cuts off ends nothing."""
    run = start(tmp_path, CASES["tokens that fill no canvas"])
    whole = replace(run, case=replace(run.case, sampler={"max_tokens": 36})).reference().tokens
    late = next(token for token in whole[29:] if token not in whole[:29])
    frames = run.frames((late,))
    assert tokens_of(frames) == whole[:29]
    assert frames[-1].finish_reason == "length"


@pytest.mark.parametrize("with_soft", [False, True])
def test_warm_start(tmp_path: Path, with_soft: bool) -> None:
    """A given canvas and given logits begin the first canvas only."""
    run = start(tmp_path, CASES["base"])
    C, V = run.case.sizes.canvas_length, run.case.sizes.vocab_size
    given: dict[str, Any] = {"canvas": np.array(ids(C, V, 41))}
    if with_soft:
        given["soft"] = 8 * uniform((C, V), 42)
    trace = run.reference(**given)
    assert_same(run.frames(**given), trace)
    assert trace.steps[0].best.tolist() != run.reference().steps[0].best.tolist()
