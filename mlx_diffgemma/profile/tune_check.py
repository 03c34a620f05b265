"""Check that a network with other choices still computes the same, made before it is timed.

Axes: C canvas positions, V vocabulary, H hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..conversation.session import Session
from ..diffusion.state import State, StepInputs
from ..diffusion.step import Step, advance
from ..generation.noise import CounterNoise
from ..generation.settings import Settings
from ..model.prefix import Prefix
from ..model.text import Model
from .workload import filled, is_raw, shipped_prompts, subject_of

STEP_PROMPT, LONG_PROMPT = 1024, 4096  # positions, where the model holds them
LOOKED_AT = 16  # rows of a canvas whose logits are compared
# Some ten roundings a layer add up like a random walk, and a small network amplifies them: up to
# 20 half ulps a layer were seen. More than MOST is another computation, however deep the network.
ALLOWED, MOST = 32.0, 0.15

# Half an ulp at 1. For float32 that of 11 bits: an M5's matrix units read no more of each factor.
HALF_ULP = {mx.bfloat16: 2.0**-9, mx.float16: 2.0**-12, mx.float32: 2.0**-12}

Seen = Mapping[str, NDArray[np.float32]]
"""Results of one step by name: a vector, or rows."""


@dataclass(frozen=True)
class Probe:
    """The inputs that candidates are tried on: a prompt, a longer one, and a canvas of noise."""

    prompt: tuple[int, ...]
    long_prompt: tuple[int, ...]
    noise: CounterNoise

    def step(self, model: Model, prefix: Prefix, soft: mx.array | None = None) -> Step:
        """One denoising step, always of the same canvas."""
        C, V = model.config.canvas_length, model.config.text.vocab_size
        sampler = Settings().resolved(model.config, 0).sampler
        given = StepInputs(
            sampler.t_max,
            sampler.entropy_bound,
            self.noise.uniforms(0, 0, C),
            self.noise.renoise(0, 0, C, V).reshape(-1),
        )
        state = State(self.noise.canvas(0, C, V).reshape(-1), soft)
        return advance(state, given, model, prefix)

    def look(self, model: Model, prompt: Sequence[int]) -> Seen:
        """Two steps of one canvas behind `prompt`, the second conditioned on the first."""
        prefix = model.encode(prompt)
        first = self.step(model, prefix)
        soft = first.soft.completed(model)
        C, V = model.config.canvas_length, model.config.text.vocab_size
        hidden = model.decode(self.noise.canvas(0, C, V), prefix, soft)
        logits = model.logits(hidden[0, :: max(1, C // LOOKED_AT)])
        seen = {
            "the encoder's last keys": prefix.keys[-1][0, 0],
            "entropies": mx.array(first.outcome.entropy),
            "soft embeddings": soft[0],
            "logits": logits,
        }
        return {name: np.array(value.astype(mx.float32)) for name, value in seen.items()}


def probe_of(session: Session) -> Probe:
    """A probe of shipped text, its prompts no longer than the model holds."""
    subject, config = subject_of(session), session.model.config
    turn = session.turn(shipped_prompts(subject)[0].text, raw=is_raw(session))
    most = config.text.max_position_embeddings - config.canvas_length

    def prompt(length: int) -> tuple[int, ...]:
        length = max(len(turn.prompt_ids), min(length, most))
        return filled(session.tokenizer, subject, turn.prompt_ids, length)

    return Probe(prompt(STEP_PROMPT), prompt(LONG_PROMPT), CounterNoise(0))


def tolerance(num_layers: int, *dtypes: mx.Dtype) -> float:
    """The allowed difference as a share of a row's length: rounding, which an error far exceeds."""
    rounding = max(HALF_ULP[dtype] for dtype in dtypes)
    return min(MOST, float(ALLOWED * rounding * np.sqrt(num_layers)))


def wrong(candidate: Seen, untuned: Seen, allowed: float) -> str | None:
    """The first result that is not finite, or differs by more than allowed; None if all are right.

    Rows differ by the median of the difference's length over the row's: a few rows may choose
    another expert where two score alike. Entropies differ by their mean difference in nats, divided
    by the mean entropy where that is above 1 nat.
    """
    for name, value in candidate.items():
        if not np.isfinite(value).all():
            return f"{name} not finite"
        difference = _difference(value, untuned[name])
        if not difference <= allowed:
            return f"{name} differ by {difference:.2g}, allowed {allowed:.2g}"
    return None


def _difference(value: NDArray[np.float32], untuned: NDArray[np.float32]) -> float:
    if value.ndim == 1:
        return float(np.abs(value - untuned).mean() / max(1.0, np.abs(untuned).mean()))
    length = np.linalg.norm(untuned, axis=-1)
    apart = np.linalg.norm(value - untuned, axis=-1)
    return float(np.median(apart / np.maximum(length, 1e-6)))
