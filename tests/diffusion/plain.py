"""A network worth denoising, and the loop in plain numpy, for the package's to be held against.

The plain loop knows no chunks, caches, records or streams: it runs the whole network on the whole
sequence and follows the sampler step by step. Axes: C canvas, V vocabulary, K classes, H = 8.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from compare import assert_close
from fake_model import CAP, FakeModel, Floats, H, Network, tiny_config
from numpy.typing import NDArray

from mlx_diffgemma.checkpoint.config import ModelConfig
from mlx_diffgemma.constrain.constraint import Constraint
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings

Doubles = NDArray[np.float64]


def lively(model: FakeModel) -> Network:
    """Wants ids that hang on every prefix token, and the surer the more of them the canvas has."""
    vocab = model.config.text.vocab_size

    def network(prefix: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Floats:
        places = len(prefix) + np.arange(canvas.size)
        wanted = (7 * sum(prefix) + 5 * places) % vocab
        sure = 0.4 + 2 * (canvas == wanted).mean()
        hidden = sure * model.table[wanted] + 0.3 * model.table[canvas]
        if soft is not None:
            hidden = hidden + 0.15 * soft
        return hidden.astype(np.float32)

    return network


def lively_model(**config: Any) -> FakeModel:
    model = FakeModel(tiny_config(**config), lambda *_: np.zeros((1, H), np.float32))
    model.network = lively(model)
    return model


def plain_soft(model: FakeModel, processed: NDArray[np.float64]) -> Floats:
    shares = np.exp(processed - processed.max(axis=1, keepdims=True))
    mixed = shares / shares.sum(axis=1, keepdims=True) @ model.table * H**0.5
    return mixed.astype(np.float32)


def plain_accepted(entropies: list[float], bound: float) -> list[bool]:
    accepted, before = [False] * len(entropies), 0.0
    for place in sorted(range(len(entropies)), key=entropies.__getitem__):
        accepted[place] = before <= bound
        before += entropies[place]
    return accepted


def plain_drawn(shares: NDArray[np.float64], uniform: float) -> int:
    return int(np.flatnonzero(np.cumsum(shares) > uniform * shares.sum())[0])


# --- the loop


@dataclass(frozen=True)
class PlainNetwork:
    """raw: sequence, canvas [C] and soft embeddings [C, H] -> raw logits [C, V]; soft: of processed
    logits [C, V]."""

    config: ModelConfig
    raw: Callable[[list[int], NDArray[np.int32], Floats | None], Doubles]
    soft: Callable[[Doubles], Floats]


def plain(model: FakeModel) -> PlainNetwork:
    def raw(sequence: list[int], canvas: NDArray[np.int32], soft: Floats | None) -> Doubles:
        return model.network(sequence, canvas, soft).astype(np.float64) @ model.table.T

    return PlainNetwork(model.config, raw, lambda processed: plain_soft(model, processed))


@dataclass
class PlainFrame:
    canvas: int
    step: int
    tokens: list[int]
    accepted: list[bool]
    entropies: list[float]
    strain: float | None = None
    committed: bool = False
    finish_reason: str | None = None
    settled: bool | None = None


def plain_loop(
    network: PlainNetwork,
    prompt: list[int],
    settings: Settings,
    noise: CounterNoise,
    canvas: list[int] | None = None,
    soft_logits: Doubles | None = None,
    constraint: Constraint | None = None,
) -> Iterator[PlainFrame]:
    """The pseudo-code of the model's description, one line after the other, in float64."""
    config, C = network.config, network.config.canvas_length
    assert settings.max_tokens is not None
    sequence = list(prompt)
    for number in range(-(-settings.max_tokens // C)):
        now = noise.canvas(number, C, config.text.vocab_size).tolist()
        soft = None
        if number == 0 and canvas is not None:
            now = canvas
        if number == 0 and soft_logits is not None:
            soft = network.soft(soft_logits)
        plain_canvas = PlainCanvas(network, settings, noise, constraint, number, sequence)
        last, ending = yield from plain_canvas.run(now, soft)
        kept = ending[: settings.max_tokens - number * C]
        stops = [i for i, token in enumerate(kept) if token in config.stop_ids]
        kept = kept[: stops[0] + 1] if stops else kept
        is_last = (number + 1) * C >= settings.max_tokens
        reason = "stop" if stops else "length" if is_last else None
        yield replace(last, tokens=kept, committed=True, finish_reason=reason)
        if reason:
            return
        sequence += ending


@dataclass
class PlainCanvas:
    """One canvas behind a sequence."""

    network: PlainNetwork
    settings: Settings
    noise: CounterNoise
    constraint: Constraint | None
    number: int
    sequence: list[int]

    def run(
        self, now: list[int], soft: Floats | None
    ) -> Generator[PlainFrame, None, tuple[PlainFrame, list[int]]]:
        """Its steps; returns the last, and the tokens that the canvas ends with."""
        sampler = self.settings.resolved(self.network.config, 0).sampler
        earlier: list[list[int]] = []
        for step in range(sampler.max_denoising_steps):
            free = self._processed(step, now, soft)
            held = None if self.constraint is None else PlainHeld(free, self.constraint)
            processed = free if held is None else held.biased
            entropies = plain_entropies(processed)
            best = processed.argmax(axis=1).tolist()
            accepted = plain_accepted(entropies.tolist(), sampler.entropy_bound)
            strain = held and held.strain
            frame = PlainFrame(self.number, step, best, accepted, entropies.tolist(), strain)
            yield frame
            now = self._next(step, processed, held, accepted)
            soft = self.network.soft(processed)
            same = sampler.stability_threshold
            stable = len(earlier) >= same and all(e == best for e in earlier[len(earlier) - same :])
            settled = bool(stable and entropies.mean() < sampler.confidence_threshold)
            if settled:
                break
            earlier.append(best)
        return replace(frame, settled=settled), best if held is None else held.committed()

    def _processed(self, step: int, now: list[int], soft: Floats | None) -> Doubles:
        """Capped logits by the temperature, which falls from t_max towards t_min."""
        config = self.network.config
        sampler = self.settings.resolved(config, 0).sampler
        share = (sampler.max_denoising_steps - step) / sampler.max_denoising_steps
        t = sampler.t_min + (sampler.t_max - sampler.t_min) * share
        raw = self.network.raw(self.sequence, np.array(now, np.int32), soft)
        processed: Doubles = CAP * np.tanh(raw / CAP) / t
        return processed

    def _next(
        self, step: int, processed: Doubles, held: "PlainHeld | None", accepted: list[bool]
    ) -> list[int]:
        """Accepted positions keep their draw, the others get fresh noise."""
        C, V = processed.shape
        uniforms = np.array(self.noise.uniforms(self.number, step, C))
        drawn = [
            plain_drawn(row, u[1]) if held is None else held.drawn(row, u)
            for row, u in zip(plain_shares(processed), uniforms, strict=True)
        ]
        fresh = self.noise.renoise(self.number, step, C, V).tolist()
        return [d if a else f for d, a, f in zip(drawn, accepted, fresh, strict=True)]


def plain_entropies(processed: Doubles) -> Doubles:
    """In nats; what has no share has no part in it."""
    shares = plain_shares(processed)
    entropies: Doubles = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return entropies


def plain_shares(processed: Doubles) -> Doubles:
    shares = np.exp(processed - processed.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


class PlainHeld:
    """Free processed logits [C, V] under a constraint: every class looked up in all logits."""

    def __init__(self, free: Doubles, constraint: Constraint) -> None:
        self.free, self.constraint, self.classes = free, constraint, constraint.classes
        members = [self.classes == k for k in range(constraint.num_classes)]
        shares = plain_shares(free)
        with np.errstate(divide="ignore"):
            self.log_mass = np.log(
                np.stack([shares[:, own].sum(axis=1) for own in members], axis=1)
            )
        bias, self.strain = constraint.bias(self.log_mass)
        self.biased = free + bias[:, self.classes]

    def drawn(self, shares: Doubles, uniforms: Doubles) -> int:
        """A class by the first uniform, one of its ids by the second; no class has over 128 ids."""
        of_class = np.bincount(self.classes, shares, self.constraint.num_classes)
        chosen = plain_drawn(of_class, uniforms[0])
        return plain_drawn(np.where(self.classes == chosen, shares, 0.0), uniforms[1])

    def committed(self) -> list[int]:
        """The likeliest way; the constraint moves on."""
        return self.constraint.commit(self.log_mass, *self.best_of_classes()).tolist()

    def best_of_classes(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The largest logit [C, K] of each class, and whose it is."""
        numbers = range(self.constraint.num_classes)
        inside = [np.where(self.classes == k, self.free, -np.inf) for k in numbers]
        score = np.stack([own.max(axis=1) for own in inside], axis=1).astype(np.float32)
        return score, np.stack([own.argmax(axis=1) for own in inside], axis=1).astype(np.int32)


def assert_same(frames: list[Frame], expected: list[PlainFrame]) -> None:
    """Equal to the token; entropies to 2e-5, what float32 keeps of sums over 40 ids, some steps on.

    A draw or an acceptance would differ only within 1e-6 of its threshold: none of these does.
    """
    assert len(frames) == len(expected)
    for got, want in zip(frames, expected, strict=True):
        where = f"canvas {want.canvas}, step {want.step}, committed {want.committed}"
        assert (got.canvas, got.step, got.committed) == (want.canvas, want.step, want.committed)
        assert got.tokens.tolist() == want.tokens, where
        assert got.accepted.tolist() == want.accepted, where
        assert (got.finish_reason, got.settled) == (want.finish_reason, want.settled), where
        assert_close(got.entropies, want.entropies, 2e-5, f"entropies, {where}")
        if want.strain is None:
            assert got.strain is None
        else:
            assert got.strain == pytest.approx(want.strain, rel=1e-5, abs=1e-5), where
