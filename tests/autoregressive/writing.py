"""A model that writes by a rule: the logits behind a text are a function of that text alone.

A rule is a plain numpy function of the tokens so far -> logits [V], so that a test can write the
same answer without prefix, pipeline or drafts. Axes: L positions, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from fake_model import FakeModel, Floats, tiny_config
from numpy.typing import NDArray

from mlx_diffgemma.autoregressive.sampling import sample
from mlx_diffgemma.checkpoint.config import ModelConfig
from mlx_diffgemma.generation.frame import Frame
from mlx_diffgemma.generation.noise import CounterNoise
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.images.pixels import Pixels
from mlx_diffgemma.model.prefix import Prefix

Rule = Callable[[Sequence[int]], Floats]
VOCAB = 40


def by_last(count: int, scale: float = 3.0, seed: int = 0) -> Rule:
    """Random logits for each of the last `count` tokens' values: few, so that text repeats."""
    seen: dict[tuple[int, ...], Floats] = {}

    def rule(text: Sequence[int]) -> Floats:
        last = tuple(text[-count:])
        if last not in seen:
            random = np.random.default_rng([seed, *last])
            seen[last] = random.normal(0, scale, VOCAB).astype(np.float32)
        return seen[last]

    return rule


def saying(script: Sequence[int], prompt_length: int) -> Rule:
    """A script behind the prompt, and 9 for ever; certain of each."""

    def rule(text: Sequence[int]) -> Floats:
        at = len(text) - prompt_length
        wanted = script[at] if at < len(script) else 9
        return np.where(np.arange(VOCAB) == wanted, 20.0, 0.0).astype(np.float32)

    return rule


class WritingModel(FakeModel):
    """`events` has a ("step", length before it) a step and a ("rows", tokens) a pass over more."""

    def __init__(self, rule: Rule, config: ModelConfig | None = None) -> None:
        network: Any = None
        super().__init__(config or tiny_config(VOCAB), network)
        self.rule = rule

    def step(self, token: int | mx.array, prefix: Prefix) -> mx.array:
        self.events.append(("step", prefix.length))
        text = [*prefix.tokens, abs(int(np.array(token).reshape(())))]  # BROKEN looks up another
        prefix.extend_unread(mx.array(token).reshape(1))
        return mx.array(self.rule(text))[None]

    def encode_hidden(
        self,
        tokens: Sequence[int],
        prefix: Prefix,
        *,
        images: Sequence[Pixels] | None = (),
    ) -> mx.array:
        self.events.append(("rows", list(tokens)))
        text, inside = list(prefix.tokens), self.placed(tokens, images or [])
        prefix.extend(tokens, [image.run(prefix.length) for image in inside])
        rows = [self.rule([*text, *tokens[: end + 1]]) for end in range(len(tokens))]
        return mx.array(np.stack(rows))[None]

    def logits(self, hidden: mx.array) -> mx.array:
        return hidden

    @property
    def texts(self) -> list[list[int]]:
        """The tokens that were encoded, a call each."""
        return self.asked("encode")


def drawn_again(
    rule: Rule, prompt: Sequence[int], given: Sequence[int], settings: Settings, config: ModelConfig
) -> list[int]:
    """The answer by the definition: each token from all the text before it, with its own noise.

    That text is of the answer `given`: if both are equal, each token follows from those before it.
    """
    resolved = settings.resolved(config, 0)
    text = [*prompt, *given]
    rows = np.stack([rule(text[: len(prompt) + at]) for at in range(len(given))])
    uniforms = CounterNoise(resolved.seed).tokens(0, len(given))
    return [row.token for row in sample(mx.array(rows), uniforms, resolved.tokens).read()]


def answer(frames: Sequence[Frame]) -> list[int]:
    """The tokens of all committed frames."""
    return [token for frame in frames if frame.committed for token in frame.tokens.tolist()]


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal arrays, NaN equal to NaN."""
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
