"""What a rank counts of an answer, beside what was planned for it."""

from pathlib import Path
from typing import Any

from mlx_diffgemma.diffusion.denoise import denoise
from mlx_diffgemma.generation.settings import Settings
from mlx_diffgemma.machine.choices import Choices
from mlx_diffgemma.machine.dtypes import mlx_dtype
from mlx_diffgemma.model.shares import message_sizes
from mlx_diffgemma.model.weights import load_network
from mlx_diffgemma.share.part import Cut, Part
from mlx_diffgemma.share.share import Share
from mlx_diffgemma.share.traffic import answer, counted

CHUNK = 40  # positions of a prompt at a time


def counts(
    share: Share, folder: str, cuts: list[Cut], prompt: list[int], canvases: int, dtype: str
) -> Any:
    """By cut: bytes and calls of an answer as they were counted, and as they were planned."""
    found = {}
    for cut in cuts:
        model = load_network(
            Path(folder),
            mlx_dtype(dtype),
            choices=Choices(prefill_chunk=CHUNK),
            part=Part(share, cut),
        ).model
        share.sent.clear()
        share.calls.clear()
        steps = [0] * canvases
        chosen = Settings(
            seed=1, max_tokens=canvases * model.config.canvas_length, max_denoising_steps=3
        )
        for frame in denoise(model, prompt, chosen):
            steps[frame.canvas] += not frame.committed
        sizes = message_sizes(model.config, model.dtype.size)
        plan = answer(sizes, cut, share.size, steps, len(prompt), CHUNK)
        planned = counted(plan, share.size)
        for counter in (share.sent, share.calls):
            counter.pop("word")  # of rank 0: a fresh seed, as long as it has digits
        counts = [dict(share.sent), dict(share.calls)]
        found[cut] = [counts, [planned.bytes, planned.calls], steps]
    return found
