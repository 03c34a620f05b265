"""The scores of attention: the bound on how many exist at once, and the memory that follows.

MLX has no fused attention for more than 8 queries where heads have 256 or 512 numbers, but for some
shapes on its newest GPUs: scores [heads, queries, keys] exist, in the dtype of the queries, and the
softmax takes their place. Keys of grouped heads are broadcast, not repeated. Source: MLX 0.32,
`mlx/fast.cpp`, the fallback of `scaled_dot_product_attention`. Nothing here imports MLX.
"""

from math import isqrt

from ..checkpoint.config import LayerConfig, ModelConfig, TextConfig
from ..checkpoint.vision import VisionConfig
from ..images.pixels import PATCH_NUMBERS, POOL

MOST_SCORES = 2**26
"""The most scores that exist at once, 134 MB in 16 bits.

With 16 heads a canvas of 256 is one call up to 16,384 keys, as is a first prompt chunk of 2,048.
A block of so many is 137 GFLOP at heads of 512, 15 ms at the 9.2 TFLOPS of an M4 Pro (arithmetic):
long beside the fraction of a millisecond that the host waits at its end.
"""

LEAST_QUERIES = 128
"""Queries below which a block takes a single head: a product of fewer rows waits for its keys."""

TILE = 32  # rows: MLX's products on a GPU go by multiples of it

SCORES_HELD = 2  # those in work, and those of a layer before that were not given back yet
ROWS_HELD = 8  # arrays of a chunk: projected, normed, rotated, scaled, outputs; of two layers
# The same of the vision tower: what an MLP, the residual and the pixels come to in arrays.
MLP_HELD, RESIDUALS_HELD, PIXELS_HELD = 6, 4, 3


def block_sizes(heads: int, queries: int, keys: int, window: int | None = None) -> tuple[int, int]:
    """Heads and queries of a block with at most MOST_SCORES scores; all of both where they fit.

    keys: those of all queries; window: the most that one query sees of them, in a causal pass. One
    head and one query are the least: no block divides its keys.
    """
    if heads * queries * keys <= MOST_SCORES:
        return heads, queries
    if _fitting(MOST_SCORES // heads, keys, window) < min(queries, LEAST_QUERIES):
        heads = 1
    fitting = max(1, _fitting(MOST_SCORES // heads, keys, window))
    even = -(-queries // -(-queries // fitting))  # blocks of about one size
    return heads, min(queries, fitting, -(-even // TILE) * TILE)


def attention_bytes(config: ModelConfig, context: int, chunk: int, item_bytes: int) -> int:
    """The most bytes that attention holds at once, beyond the keys and values of the cache.

    context: positions, canvas included; chunk: prompt positions encoded at a time. Counted are
    scores in work and of a layer before, and the copies of a chunk's queries, keys, values and
    outputs; masks (a byte for a query and a key) lie within. A longer context never has less.

    What else grows with a chunk, by arithmetic at the published sizes in 16 bits and 2,048
    positions, were nothing given back within a layer: the experts' 16,384 rows of 2,816, 1,408,
    704, 2,816 and 2,816 numbers, 346 MB; the dense MLP, 37 MB; nine arrays of the residual's shape,
    104 MB. A step has 134 MB of raw logits and about 300 MB of a 64-row chunk's in float32. Either
    fits the flat 1 GB of the plan; a chunk of 4,096 takes 974 MB of it.
    """
    text = config.text
    most = 0
    for rows in (min(chunk, context), min(config.canvas_length, context)):
        for layer in text.layers:
            seen = rows + text.sliding_window - 1 if layer.sliding else context
            scores = min(MOST_SCORES, text.num_attention_heads * rows * min(context, seen))
            most = max(most, SCORES_HELD * scores + ROWS_HELD * rows * _width(layer, text))
    return most * item_bytes


def vision_bytes(vision: VisionConfig, soft_tokens: int, item_bytes: int) -> int:
    """The most bytes that the tower holds at once for an image, beyond its weights.

    Counted are the pixels in 32 bits, the residual, and the larger of the MLP and attention, whose
    scores and rows count as in `attention_bytes`. Upper bounds: measured peaks stay below them.
    """
    patches, wide = POOL**2 * soft_tokens, vision.num_attention_heads * vision.head_dim
    scores = min(MOST_SCORES, vision.num_attention_heads * patches**2)
    attention = SCORES_HELD * scores + ROWS_HELD * patches * 3 * wide
    mlp = MLP_HELD * patches * vision.intermediate_size
    residual = RESIDUALS_HELD * patches * vision.hidden_size
    pixels = 4 * PIXELS_HELD * patches * PATCH_NUMBERS
    return pixels + item_bytes * (residual + max(attention, mlp))


def _width(layer: LayerConfig, text: TextConfig) -> int:
    """Numbers in a position's queries, keys and values; on full layers the values are the keys."""
    kinds = 2 if layer.sliding else 1
    return (text.num_attention_heads + kinds * layer.num_key_value_heads) * layer.head_dim


def _fitting(most: int, keys: int, window: int | None) -> int:
    """The queries of one head that have at most `most` scores; n of them see n + window - 1."""
    fitting = most // keys
    if window is not None:
        before = window - 1
        fitting = max(fitting, (isqrt(before * before + 4 * most) - before) // 2)
    return fitting
