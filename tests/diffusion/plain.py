"""A network worth denoising, and the sampler's parts in plain numpy, for loops to be held against.

Axes: C canvas, V vocabulary, H = 8.
"""

from typing import Any

import numpy as np
from fake_model import FakeModel, Floats, H, Network, tiny_config
from numpy.typing import NDArray


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
