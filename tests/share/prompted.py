"""Prompts whose pieces ranks share by rows: what is in the prefix, and what was sent for it."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from checkpoints import Sizes
from random_images import random_pixels, random_text, shown

from mlx_diffgemma.machine.device import in_host
from mlx_diffgemma.model.prefix import Prefix
from mlx_diffgemma.model.text import Model
from mlx_diffgemma.share.part import LEAST_ROWS
from mlx_diffgemma.share.share import Share

# Nothing here divides evenly by two or three; the window is far shorter than a rank's rows.
SEEING = Sizes(
    layers="ssfsf",
    num_attention_heads=6,
    num_key_value_heads=3,
    num_experts=5,
    vocab_size=199,
    canvas_length=11,
    residual=0.3,
    vision=True,
)
IMAGES = [random_pixels(4, 3, number) for number in range(3)]
# 91 positions; of two ranks' border 46 and of three's 31 and 61 each lies inside an image.
FIRST = shown(SEEING, (25, IMAGES[0], 4, IMAGES[1], 3, IMAGES[2], 23))
NEXT, FEW, OTHER = (random_text(SEEING, count, count) for count in (130, 7, 53))
PIECES = (91, 60, 60, 10, 7, 53)  # by which they are encoded


def prefixes_of(model: Model) -> list[Prefix]:
    """A prompt with images, which goes on in pieces and with few tokens; one that went back."""
    prefix = model.encode(FIRST.ids, images=FIRST.images)
    model.encode(NEXT, prefix, chunk=60)
    model.encode(FEW, prefix)
    back = model.encode(FIRST.ids[:20])  # fewer than are divided by two
    assert back.roll_back(15) == 15
    return [prefix, model.encode(OTHER, back)]


def stored(model: Model) -> list[Any]:
    """Keys and values of every layer of each prefix, and a canvas's hidden states behind it."""
    canvas = mx.array(random_text(SEEING, SEEING.canvas_length, 3))
    found = []
    for prefix in prefixes_of(model):
        found += [in_host(array.astype(mx.float32)) for array in (*prefix.keys, *prefix.values)]
        hidden = model.decode(canvas, prefix)
        rows = model.part.rows(canvas.size)
        found.append(in_host(rows.gathered(hidden, 1, "hidden").astype(mx.float32)))
    return found


def write_stored(file: Path, model: Model) -> None:
    """What one process stores, for `prompted`."""
    np.savez(file, *stored(model))


def of_stored(share: Share, model: Model, whole: str) -> dict[str, Any]:
    """The largest difference from what one process stores, and what encoding has sent."""
    share.sent.clear()
    prefixes_of(model)
    sent = dict(share.sent)
    with np.load(whole) as right:
        pairs = zip(stored(model), (right[name] for name in right.files), strict=True)
        difference = np.max([np.abs(a - b).max() for a, b in pairs])  # NaN where one is
        return {"difference": float(difference), "sent": sent}


def planned_bytes(ranks: int, item: int) -> dict[str, int]:
    """Bytes that a rank sends to encode the prompts: its rows of pieces that are divided."""
    rows = sum(-(-piece // ranks) for piece in PIECES if piece >= LEAST_ROWS * ranks)
    sliding = 2 * SEEING.num_key_value_heads * SEEING.head_dim * SEEING.layers.count("s")
    full = SEEING.full_kv_heads * SEEING.global_head_dim * SEEING.layers.count("f")
    return {"keys and values": rows * (ranks - 1) * item * (sliding + full)}
