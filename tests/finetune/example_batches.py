"""Batches of random examples, of random networks, for the training objective."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from checkpoints import Sizes
from random_images import random_pixels, shown

from mlx_diffgemma.finetune.objective import Batch
from mlx_diffgemma.model.images import placed


@dataclass(frozen=True)
class Shape:
    """What a batch has: the tokens in front of each example's canvases, and theirs.

    each: noisy canvases an example; conditioned: the share of them.
    """

    prompts: tuple[int, ...] = (9, 5)
    canvases: tuple[int, ...] = (2, 1)
    each: int = 2
    conditioned: float = 0.5
    mask_prompt: bool = False
    images: bool = False


def random_batch(sizes: Sizes, shape: Shape, seed: int) -> Batch:
    """A batch with padding, levels from low to high and noise of the whole vocabulary."""
    random = np.random.default_rng(seed)
    C, B = sizes.canvas_length, len(shape.prompts)
    prompts = [
        _prompt(sizes, shape, count, 100 * seed + b) for b, count in enumerate(shape.prompts)
    ]
    rows = [
        [*prompt, *random.integers(0, sizes.text_ids, count * C)]
        for (prompt, _), count in zip(prompts, shape.canvases, strict=True)
    ]
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.zeros((B, int(lengths.max()) + 2), np.int32)
    weights = np.zeros(ids.shape, np.float32)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = row
        first = len(row) - shape.canvases[b] * C - 1 if shape.mask_prompt else 0
        weights[b, first : len(row) - 1] = 1 / (B * (len(row) - 1 - first))
    M = B * shape.each
    of = np.repeat(np.arange(B), shape.each)
    chosen = random.integers(0, np.array(shape.canvases)[of])
    starts = (lengths[of] - C * (np.array(shape.canvases)[of] - chosen)).astype(np.int32)
    clean = np.stack([ids[b, at : at + C] for b, at in zip(of, starts, strict=True)])
    levels = random.uniform(0.05, 1, M).astype(np.float32)
    noise = random.integers(0, sizes.vocab_size, (M, C))
    noisy = np.where(random.uniform(size=(M, C)) < levels[:, None], noise, clean).astype(np.int32)
    conditioned = random.permutation(M) < shape.conditioned * M
    images: tuple[Any, ...] = tuple(
        (b, image) for b, (_, found) in enumerate(prompts) for image in found
    )
    canvas_weights = np.full((M, C), 1 / (M * C), np.float32)
    return Batch(
        ids, weights, clean, noisy, starts, conditioned, levels, canvas_weights, images, lengths
    )


def _prompt(sizes: Sizes, shape: Shape, count: int, seed: int) -> tuple[list[int], list[Any]]:
    """Ids of a prompt, with two images of two or more soft tokens in it where there are images."""
    if not shape.images:
        return shown(sizes, [count], seed).ids, []
    first, second = random_pixels(2, 1, seed), random_pixels(2, 2, seed + 1)
    whole = shown(sizes, [2, first, 1, second, count], seed)
    return whole.ids, placed(whole.ids, whole.images, sizes.image_ids[1])
