"""A token of mode ar for `info`: the bytes that it reads, and the rate that its chip allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...checkpoint.config import ModelConfig
from ...machine.chips import Chip
from ...machine.choices import ModeTimes
from ...machine.dtypes import FLOAT_BYTES
from ...model.bits import stored_bits
from ...model.roofline import bound, estimated_ms, estimated_times, token_launches
from ...model.work import HEAD, Work, experts_in_text, step_work, token_work, total

PREFIX = 1024  # positions behind which a token is counted, where the model holds them
INVENTORY = {HEAD: "embedding"}  # parts that the table of parts has under another name


@dataclass(frozen=True)
class TokenCost:
    """Bytes that a token of mode ar reads behind `prefix` positions, by the inventory's parts.

    launches: of kernels, counted by layers; tokens_per_second: at the full rate of the chip's
    memory, and estimated the times that both modes should take: arithmetic, None without a chip.
    step_bytes: what a denoising step reads, where every layer uses all of its experts; text_...:
    where it uses `text_experts`, an assumption.
    """

    prefix: int
    weight_bytes: int
    cache_bytes: int
    parts: Mapping[str, int]
    launches: int
    chip: str | None
    tokens_per_second: float | None
    estimated: ModeTimes | None
    step_bytes: int
    text_experts: int
    text_step_bytes: int
    text_step_ms: float | None


def token_cost(
    folder: Path,
    config: ModelConfig,
    dtype: str,
    chip: Chip | None,
    *,
    unpacked: bool = False,
    shape_only: bool = False,
) -> TokenCost | None:
    """The cost of a token; None for a checkpoint that was not trained for mode ar.

    unpacked, shape_only: see `stored_bits`.
    """
    if "ar" not in config.modes:
        return None
    item_bytes = FLOAT_BYTES[dtype]
    bits = stored_bits(folder, config, item_bytes, unpacked=unpacked, shape_only=shape_only)
    prefix = min(PREFIX, config.text.max_position_embeddings - 1)
    parts = token_work(config, prefix, bits, item_bytes=item_bytes)
    work = total(parts)
    steps = [
        total(step_work(config, prefix, bits, item_bytes=item_bytes, in_text=in_text))
        for in_text in (False, True)
    ]
    return TokenCost(
        prefix,
        round(work.weight_bytes),
        round(work.cache_bytes),
        {INVENTORY.get(name, name): _weights(part) for name, part in parts.items()},
        token_launches(config),
        chip.name if chip else None,
        1e3 / bound(work, chip).ms if chip else None,
        estimated_times(config, bits, chip, prefix, item_bytes=item_bytes) if chip else None,
        round(steps[0].bytes),
        experts_in_text(config.text.num_experts, config.text.top_k_experts),
        round(steps[1].bytes),
        estimated_ms(steps[1], chip) if chip else None,
    )


def _weights(part: Work) -> int:
    return round(part.weight_bytes)
