"""One decoder pass over a fixed canvas, and one of the vision tower over a fixed image.

A single layer is in memory at a time, so that a source three times as large as the memory can be
compared with the folder made from it.
Axes: L prompt positions, C canvas positions, V vocabulary, H hidden size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig, read_config
from ..checkpoint.tensors import Tensors
from ..checkpoint.vision import VisionConfig
from ..images.pixels import POOL, SIDE, Pixels, Source
from ..model.attention import CAUSAL
from ..model.cache import LayerCache
from ..model.elementwise import softcap
from ..model.vision import VisionLayer
from ..model.weights import build_ends, build_layer, build_vision

PROMPT_LENGTH, CANVAS_LENGTH = 8, 16
IMAGE_SIZE = (3, 2)  # width and height in soft tokens
STRIDE = 7919  # a prime, so that ids spread over any vocabulary

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """Distance in nats, over a canvas, between two predictions of the first step."""

    mean_kl: float
    largest_kl: float
    same_choice: int  # positions with the same most likely token
    positions: int


def first_step_log_probabilities(
    folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Rows:
    """log p [C, V] of a canvas's first step, with activations in float32."""
    config = read_config(folder)
    tensors = Tensors(folder, config, mx.float32)
    x, y = _below_layers(tensors)
    num_layers = len(config.text.layers)
    mx.clear_cache()
    for number in range(num_layers):
        x, y = _through_layer(tensors, number, x, y)
        mx.clear_cache()
        progress(number + 1, num_layers)
    rows = np.asarray(_above_layers(folder, config, y)).astype(np.float64)
    shifted = rows - rows.max(axis=-1, keepdims=True)
    normed: Rows = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normed


def image_features(folder: Path) -> Rows | None:
    """Features [N, H] of a fixed image, with activations in float32; None without a tower."""
    tower = build_vision(Tensors(folder, read_config(folder), mx.float32))
    if tower is None:
        return None
    tower = replace(tower, layers=_one_by_one(list(tower.layers)))
    return np.asarray(tower(_image(tower.config))).astype(np.float64)


def distance(source: Rows, other: Rows) -> Distance:
    """KL(source || other) of log probabilities [C, V]."""
    kl = (np.exp(source) * (source - other)).sum(axis=-1)
    same = int((source.argmax(axis=-1) == other.argmax(axis=-1)).sum())
    return Distance(float(kl.mean()), float(kl.max()), same, len(kl))


def _one_by_one(layers: list[VisionLayer]) -> Iterator[VisionLayer]:
    """The layers, each let go of when the next is asked for."""
    while layers:
        yield layers.pop(0)


def _image(config: VisionConfig) -> Pixels:
    """An image without meaning, no side of which is longer than the tower has positions."""
    most = max(1, config.position_embedding_size // POOL)
    width, height = (SIDE * min(side, most) for side in IMAGE_SIZE)
    rgb = (np.arange(height * width * 3) * STRIDE % 251).astype(np.uint8)
    return Pixels(rgb.reshape(height, width, 3), width, height, Source(None, ""))


def _ids(config: ModelConfig) -> tuple[mx.array, mx.array]:
    """A prompt [1, L] that fits the window, and a canvas [1, C]; ids without meaning."""
    length = min(PROMPT_LENGTH, config.text.sliding_window)
    positions = min(CANVAS_LENGTH, config.canvas_length)
    ids = (np.arange(length + positions) * STRIDE + 2) % config.text.vocab_size
    return mx.array(ids[None, :length]), mx.array(ids[None, length:])


def _below_layers(tensors: Tensors) -> tuple[mx.array, mx.array]:
    """Inputs of the first layer, evaluated: prompt [1, L, H] and canvas [1, C, H].

    The embedding table is let go: as large as a layer, the head reads it again.
    """
    embedding, conditioning, _ = build_ends(tensors)
    prompt, canvas = _ids(tensors.config)
    x = embedding.lookup(prompt)
    y = conditioning(embedding.lookup(canvas), None)
    mx.eval(x, y)
    return x, y


def _above_layers(folder: Path, config: ModelConfig, y: mx.array) -> mx.array:
    """Softcapped logits [C, V] of the last layer's output y [1, C, H], evaluated."""
    embedding, _, final_norm = build_ends(Tensors(folder, config, mx.float32))
    hidden = mx.fast.rms_norm(y, final_norm, config.text.rms_norm_eps)
    logits = softcap(embedding.head(hidden), config.text.final_logit_softcapping)[0]
    mx.eval(logits)
    return logits


def _through_layer(
    tensors: Tensors, number: int, x: mx.array, y: mx.array
) -> tuple[mx.array, mx.array]:
    """Outputs of layer `number`, evaluated: prompt x [1, L, H] and canvas y [1, C, H]."""
    config = tensors.config.text.layers[number]
    layer = build_layer(tensors, number)
    cache = LayerCache(tensors.config.text.sliding_window if config.sliding else None)
    length = x.shape[1]
    like = (config.num_key_value_heads, config.head_dim, tensors.dtype)
    cache.make_room(0, length + y.shape[1], like, 0)
    x = layer.encode(x, cache, 0, CAUSAL)
    y = layer.decode(y, cache, length)
    mx.eval(x, y)
    return x, y
