"""The facts of `info` on a checkpoint, gathered without reading a weight, and their JSON."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...checkpoint.config import ModelConfig, read_config
from ...checkpoint.files import read_optional
from ...checkpoint.generation import SamplerDefaults
from ...checkpoint.hub import Source
from ...errors import SettingsError
from ...generation.settings import Settings
from ...machine.chips import this_chip
from ...machine.choices import Choices, ModeTimes
from ...model.inventory import Inventory, take_inventory
from ...model.memory import Footprint, plan_memory
from ...model.shares import shared_plan
from ...text.template import find_template
from ..macs.group import Group
from .macs import SharedFacts, require_shareable, shared_facts
from .recipes import RecipeFit, recipe_fits, recipe_plans
from .token import TokenCost, token_cost

DEFAULT_CONTEXT = 8192


@dataclass(frozen=True)
class Facts:
    """All that `info` shows."""

    source: Source
    config: ModelConfig
    sampler: SamplerDefaults
    dtype: str
    inventory: Inventory
    need: Footprint
    tuned: bool  # the need is that of what was tuned for this machine
    times: ModeTimes | None  # of both modes, as measured on this machine
    token: TokenCost | None  # of mode ar, None for a checkpoint without it
    largest_context: int | None
    has_tokenizer: bool
    has_template: bool
    recipes: tuple[RecipeFit, ...]  # what `convert` would make of it
    shared: SharedFacts | None  # by several Macs, None where nobody asks


def gather(
    source: Source,
    context: int | None,
    dtype: str | None,
    choices: Choices | None = None,
    macs: int | None = None,
    group: Group | None = None,
) -> Facts:
    """The facts in the small files and headers of a folder, or of a repository's that is not here.

    choices: what was tuned for the model on this machine; macs: how many are to share it; group:
    those that were started together for that. SettingsError for a context that the model does not
    have, or more Macs than can share it.
    """
    folder, remote = source.folder, source.download is not None
    config = read_config(folder)
    sampler = Settings().resolved(config, seed=0).sampler
    if macs is not None:
        require_shareable(config, macs)
    positions = _checked_context(context, config.text.max_position_embeddings)
    choices = choices or Choices()
    dtype = dtype or choices.dtype or config.dtype
    plan = plan_memory(folder, dtype, choices, shape_only=remote)
    need = plan(positions)
    recipes = recipe_plans(folder, config, dtype, shape_only=remote, macs=macs)
    shared = None
    if macs is not None:
        own = shared_plan(folder, plan, macs, dtype, choices, shape_only=remote)
        shared = shared_facts(own, positions, recipes, group)
    return Facts(
        source=source,
        config=config,
        sampler=sampler,
        dtype=dtype,
        inventory=take_inventory(folder, config, shape_only=remote),
        need=need,
        tuned=choices.alter,
        times=choices.times,
        token=token_cost(
            folder, config, dtype, this_chip(), unpacked=choices.unpacks, shape_only=remote
        ),
        largest_context=plan.largest_context(need.available_bytes),
        has_tokenizer=source.holds("tokenizer.json"),
        has_template=_has_template(folder),
        recipes=recipe_fits(recipes, need.available_bytes),
        shared=shared,
    )


def describe(facts: Facts) -> dict[str, Any]:
    """The object of `info --json`."""
    config, text = facts.config, facts.config.text
    return {
        "path": None if facts.source.download else str(facts.source.folder),
        "revision": facts.source.revision,
        "download": _download(facts.source),
        "model_type": "diffusion_gemma",
        "dtype": facts.dtype,
        "parameters": facts.inventory.parameters,
        "layers": _layers(config),
        "canvas_length": config.canvas_length,
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "experts": {"total": text.num_experts, "used": text.top_k_experts},
        "images": _images(facts),
        "quantization": config.packing,
        "parts": [asdict(part) for part in facts.inventory.parts],
        "sampler": asdict(facts.sampler),
        "stop_ids": list(config.stop_ids),
        "tokenizer": facts.has_tokenizer,
        "chat_template": facts.has_template,
        "memory": _memory(facts),
        "dropped": list(facts.inventory.dropped),
        "recipes": [asdict(recipe) for recipe in facts.recipes],
        "modes": list(config.modes),
        "token": None if facts.token is None else asdict(facts.token),
        "times": None if facts.times is None else asdict(facts.times),
        "shared": None if facts.shared is None else asdict(facts.shared),
    }


def _layers(config: ModelConfig) -> dict[str, int]:
    """The number of layers, and of those that see a window, or all."""
    total, sliding = len(config.text.layers), sum(layer.sliding for layer in config.text.layers)
    return {"total": total, "sliding": sliding, "full": total - sliding}


def _memory(facts: Facts) -> dict[str, Any]:
    """What the model takes for the context, beside what this machine has for it."""
    need = facts.need
    return {
        "weights_bytes": need.weight_bytes,
        "cache_bytes": need.cache_bytes,
        "workspace_bytes": need.workspace_bytes,
        "needed_bytes": need.needed_bytes,
        "available_bytes": need.available_bytes,
        "fits": need.fits,
        "context": need.context,
        "largest_context": facts.largest_context,
        "wired_limit_mb": need.wired_limit_mb,
    }


def _images(facts: Facts) -> dict[str, Any] | None:
    """The soft tokens of an image: by default at most, and all that may be chosen."""
    vision = facts.inventory.vision
    if vision is None or facts.config.image_ids is None:
        return None
    return {"tokens": vision.soft_tokens, "budgets": list(vision.budgets)}


def _download(source: Source) -> dict[str, Any] | None:
    if (download := source.download) is None:
        return None
    return {
        "repository": download.repo_id,
        "bytes": download.num_bytes,
        "missing_bytes": download.missing_bytes,
        "free_bytes": download.free_bytes,
    }


def _checked_context(context: int | None, most: int) -> int:
    if context is None:
        return min(DEFAULT_CONTEXT, most)
    if not 1 <= context <= most:
        raise SettingsError(f"--context is {context:,}, expected 1 to {most:,} for this model.")
    return context


def _has_template(folder: Path) -> bool:
    return find_template(folder, read_optional(folder / "tokenizer_config.json")) is not None
