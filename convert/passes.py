"""Passes over a fixed prompt and canvas, and one of the vision tower over a fixed image.

A single layer is in memory at a time, so that a source three times as large as the memory can be
compared with the folder made from it.
Axes: L prompt positions, C canvas positions, V vocabulary, H hidden size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.config import ModelConfig, read_config
from ..checkpoint.tensors import Tensors
from ..checkpoint.vision import VisionConfig
from ..images.pixels import POOL, SIDE, Pixels, Source
from ..model.adapters import LAYERS, Adapters, adapted_conditioning, adapted_layer
from ..model.attention import CAUSAL
from ..model.blocks import Layer
from ..model.cache import LayerCache
from ..model.elementwise import softcap
from ..model.text import Progress
from ..model.vision import VisionLayer
from ..model.vision_weights import build_vision
from ..model.weights import build_ends, build_layer

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


@dataclass(frozen=True)
class Logits:
    """Logits of the encoder [L, V], and of a canvas [C, V] without and with a soft embedding."""

    encoder: Rows
    decoder: Rows
    conditioned: Rows


def first_step_log_probabilities(folder: Path, progress: Progress = lambda d, t: None) -> Rows:
    """log p [C, V] of a canvas's first step, with activations in float32."""
    _, canvas = _hidden(folder, {}, progress, conditioned=False)
    (rows,) = _above_layers(folder, [canvas])
    shifted = rows - rows.max(axis=-1, keepdims=True)
    normed: Rows = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normed


def pass_logits(folder: Path, adapters: Adapters, progress: Progress = lambda d, t: None) -> Logits:
    """Logits of both passes, with activations in float32; the soft embedding is that of fixed ids.

    adapters: applied to each layer, in float32.
    """
    return Logits(*_above_layers(folder, _hidden(folder, adapters, progress, conditioned=True)))


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


def _hidden(
    folder: Path, adapters: Adapters, progress: Progress, *, conditioned: bool
) -> list[mx.array]:
    """Outputs [1, L or C, H] of the last layer: prompt, canvas, and the canvas `conditioned`."""
    tensors = Tensors(folder, read_config(folder), mx.float32)
    hidden = _below_layers(tensors, adapters, conditioned)
    num_layers = len(tensors.config.text.layers)
    mx.clear_cache()
    for number in range(num_layers):
        layer = adapted_layer(build_layer(tensors, number), f"{LAYERS}.{number}", adapters)
        hidden = _through_layer(tensors, layer, hidden)
        del layer
        mx.clear_cache()
        progress(number + 1, num_layers)
    return hidden


def _below_layers(tensors: Tensors, adapters: Adapters, conditioned: bool) -> list[mx.array]:
    """Inputs of the first layer, evaluated: prompt [1, L, H] and canvases [1, C, H].

    The embedding table is let go: as large as a layer, the head reads it again.
    """
    embedding, conditioning, _ = build_ends(tensors)
    prompt, canvas = _ids(tensors.config)
    inputs = [embedding.lookup(prompt), conditioning(embedding.lookup(canvas), None)]
    if conditioned:
        soft = embedding.lookup(canvas[:, ::-1])
        with_adapters = adapted_conditioning(conditioning, adapters)
        inputs.append(with_adapters(embedding.lookup(canvas), soft))
    mx.eval(inputs)
    return inputs


def _above_layers(folder: Path, hidden: list[mx.array]) -> list[Rows]:
    """Softcapped logits [L or C, V] of the last layer's outputs [1, L or C, H]."""
    config = read_config(folder)
    embedding, _, final_norm = build_ends(Tensors(folder, config, mx.float32))
    rows = []
    for each in hidden:
        normed = mx.fast.rms_norm(each, final_norm, config.text.rms_norm_eps)
        logits = softcap(embedding.head(normed), config.text.final_logit_softcapping)[0]
        rows.append(np.asarray(logits).astype(np.float64))
    return rows


def _through_layer(tensors: Tensors, layer: Layer, hidden: list[mx.array]) -> list[mx.array]:
    """Outputs of a layer, evaluated, for the prompt [1, L, H] and canvases behind it."""
    prompt, *canvases = hidden
    config = layer.attention.layer
    cache = LayerCache(tensors.config.text.sliding_window if config.sliding else None)
    length = prompt.shape[1]
    like = (config.num_key_value_heads, config.head_dim, tensors.dtype)
    cache.make_room(0, length + canvases[0].shape[1], like, 0)
    outputs = [layer.encode(prompt, cache, 0, CAUSAL)]
    mx.eval(outputs)
    for canvas in canvases:
        outputs.append(layer.decode(canvas, cache, length))
        mx.eval(outputs)
    return outputs
