"""The vision tower: an image's patches to soft tokens, one image at a time.

Axes: P patches of an image, N soft tokens, W the tower's hidden size, D its head dimension, H the
text network's hidden size. Source: transformers 5.24, `models/gemma4/modeling_gemma4.py`
(Gemma4VisionModel) and `models/diffusion_gemma` (DiffusionGemmaMultimodalEmbedder).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import mlx.core as mx

from ..checkpoint.config import ModelConfig
from ..checkpoint.vision import NO_IMAGE_IDS, SIGHTLESS, VisionConfig
from ..errors import CheckpointError, ImageError, Setting
from ..images.pixels import PATCH, POOL, SIDE, Pixels
from .attention import ALL, attend
from .blocks import GatedMLP
from .matrices import AnyMatrix, JoinedMatrix

Turn = tuple[mx.array, mx.array]  # cosines and sines [P, D/2]: a quarter of D for x, one for y


@dataclass
class VisionAttention:
    """Attention of every patch to every patch; scale 1, per-head norms on q, k and v."""

    qkv: AnyMatrix | JoinedMatrix
    out: AnyMatrix
    q_norm: mx.array
    k_norm: mx.array
    num_heads: int
    eps: float

    def __call__(self, x: mx.array, turn: Turn) -> mx.array:
        """x [1, P, W] -> [1, P, W]."""
        heads = mx.unflatten(self.qkv(x), -1, (3 * self.num_heads, -1))
        heads = mx.fast.rms_norm(heads, None, self.eps).swapaxes(1, 2)
        queries, keys, values = mx.split(heads, 3, axis=1)
        queries = rotate(queries * self.q_norm, turn)
        keys = rotate(keys * self.k_norm, turn)
        return self.out(attend(queries, keys, values, ALL).swapaxes(1, 2).flatten(2))


@dataclass
class VisionLayer:
    """One layer: each half normed before and after, then added to the residual."""

    attention: VisionAttention
    mlp: GatedMLP
    input_norm: mx.array
    attention_norm: mx.array
    feedforward_norm: mx.array
    output_norm: mx.array
    eps: float

    def __call__(self, x: mx.array, turn: Turn) -> mx.array:
        """x [1, P, W] -> [1, P, W]."""
        attended = self.attention(self._normed(x, self.input_norm), turn)
        x = x + self._normed(attended, self.attention_norm)
        update = self.mlp(self._normed(x, self.feedforward_norm))
        return x + self._normed(update, self.output_norm)

    def _normed(self, x: mx.array, weight: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, weight, self.eps)


@dataclass
class VisionTower:
    """Patches to features that stand in for token embeddings.

    positions [2, places, W]: the x and the y table. std_bias, std_scale [W]: None where the
    checkpoint does not standardise.
    """

    config: VisionConfig
    patch: AnyMatrix
    positions: mx.array
    layers: Iterable[VisionLayer]
    std_bias: mx.array | None
    std_scale: mx.array | None
    projection: AnyMatrix
    dtype: mx.Dtype

    def __call__(self, pixels: Pixels) -> mx.array:
        """One image -> features [N, H], evaluated; what it took is given back.

        ImageError for more patches along a side than there are positions.
        """
        features = self.projected(self.soft_tokens(pixels))
        mx.eval(features)
        mx.clear_cache()
        return features

    def soft_tokens(self, pixels: Pixels) -> mx.array:
        """One image -> its soft tokens before the projection [N, W], a layer at a time."""
        _, width, _ = pixels.rgb.shape
        self._require_places(pixels)
        places = mx.array(pixels.positions)
        x = self.embed(mx.array(pixels.patches), places)
        turn = angles(places, self.config, self.dtype)
        for layer in self.layers:
            x = layer(x, turn)
            mx.eval(x)
        return self.pooled(x[0], int(width) // SIDE)

    def _require_places(self, pixels: Pixels) -> None:
        """ImageError where a lookup would leave the position tables: MLX checks no bounds."""
        most = self.config.position_embedding_size
        height, width, _ = (int(side) // PATCH for side in pixels.rgb.shape)
        if max(height, width) > most:
            raise ImageError(
                f"the image, {pixels.width} x {pixels.height} pixels, becomes {width} x {height} "
                f"patches, expected at most {most} along a side, for which this checkpoint has "
                "positions; cut it, or lower ",
                Setting("image_tokens"),
                ".",
            )

    def embed(self, patches: mx.array, places: mx.array) -> mx.array:
        """patches [P, 768] in 0..1 and places [P, 2] -> [1, P, W]."""
        x = self.patch((2 * (patches - 0.5)).astype(self.dtype))
        both = self.positions.flatten(0, 1)  # a slice of each table would copy all of it, 94 MB
        rows = both[places + mx.array([0, self.config.position_embedding_size])]
        return (x + (rows[:, 0] + rows[:, 1]))[None]

    def pooled(self, x: mx.array, columns: int) -> mx.array:
        """x [P, W] -> [N, W]: means of 3 x 3 patches, times sqrt(W), standardised.

        The mean is rounded to the dtype; what follows is float32, since it may pass 65,504.
        """
        width = x.shape[-1]
        cells = x.astype(mx.float32).reshape(-1, POOL, columns, POOL, width)
        means = cells.mean(axis=(1, 3)).reshape(-1, width).astype(self.dtype)
        scaled = means.astype(mx.float32) * sqrt(width)
        if self.std_bias is not None and self.std_scale is not None:
            bias, scale = (part.astype(mx.float32) for part in (self.std_bias, self.std_scale))
            scaled = (scaled - bias) * scale
        return scaled.astype(self.dtype)

    def projected(self, pooled: mx.array) -> mx.array:
        """pooled [N, W] -> features [N, H]."""
        return self.projection(mx.fast.rms_norm(pooled, None, self.config.rms_norm_eps))


def required_tower(config: ModelConfig, tower: VisionTower | None) -> VisionTower:
    """The vision tower; CheckpointError where no image can be given to this checkpoint."""
    if tower is None:
        raise CheckpointError(SIGHTLESS)
    if config.image_token_id is None:
        raise CheckpointError(f"config.json {NO_IMAGE_IDS}")
    return tower


def angles(places: mx.array, config: VisionConfig, dtype: mx.Dtype) -> Turn:
    """Cosines and sines [P, D/2] of places [P, 2]: the first half turns by x, the second by y."""
    half = config.head_dim // 2
    exponents = mx.arange(0, half, 2, dtype=mx.float32) / half
    frequencies = 1.0 / mx.power(mx.array(config.rope_theta, mx.float32), exponents)
    turned = (places.astype(mx.float32)[:, :, None] * frequencies).reshape(places.shape[0], half)
    return mx.cos(turned).astype(dtype), mx.sin(turned).astype(dtype)


def rotate(x: mx.array, turn: Turn) -> mx.array:
    """x [1, heads, P, D]: in each half of D the pairs (d, d + D/4) turn by that half's angles."""
    cos, sin = (mx.unflatten(part, -1, (2, 1, -1)) for part in turn)  # [P, 2, 1, D/4]
    pairs = mx.unflatten(x, -1, (2, 2, -1))  # [1, heads, P, half, of a pair, D/4]
    first, second = mx.split(pairs, 2, axis=-2)
    turned = mx.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-2)
    return turned.reshape(x.shape)
