"""The recipes of `convert` for a checkpoint that is not packed: memory, and bytes a token."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...checkpoint.config import ModelConfig
from ...convert.files import write_shapes_only
from ...convert.plan import Plan, make_plan
from ...convert.quantize import PRESETS, RecipeOptions, make_recipe
from ...convert.read import open_checkpoint
from ...errors import CheckpointError
from ...model.memory import MemoryPlan, plan_memory
from ...model.shares import SharedPlan, shared_plan

RECIPES = {
    **{name: RecipeOptions(name) for name in PRESETS if name != "none"},
    "4bit --attention-bits 4 --embed-bits 4": RecipeOptions("4bit", attention_bits=4, embed_bits=4),
    "4bit --attention-bits 4 --embed-bits 4 --mlp-bits 4": RecipeOptions(
        "4bit", attention_bits=4, embed_bits=4, mlp_bits=4
    ),
}
"""What stands behind `convert --quantize` -> the recipe; the last two are mode ar's."""


@dataclass(frozen=True)
class RecipePlan:
    """The memory of what a recipe makes, and the bytes of it that a token of mode ar reads.

    shared: for several Macs; None where nobody asks for it.
    """

    memory: MemoryPlan
    token_bytes: int | None
    shared: SharedPlan | None = None


@dataclass(frozen=True)
class RecipeFit:
    """A recipe, the bytes of its weights in memory, and the longest context beside them.

    largest_context: 0 where not even the weights fit, None where the memory is not known;
    token_bytes: of the weights, read for a token of mode ar, None for a checkpoint without it.
    """

    name: str
    weights_bytes: int
    largest_context: int | None
    token_bytes: int | None


def recipe_fits(plans: Mapping[str, RecipePlan], available: int | None) -> tuple[RecipeFit, ...]:
    """One entry a recipe, on a machine that can give `available` bytes, None where unknown."""
    return tuple(
        RecipeFit(
            name,
            plan.memory.weights.held_bytes,
            plan.memory.largest_context(available),
            plan.token_bytes,
        )
        for name, plan in plans.items()
    )


def recipe_plans(
    folder: Path,
    config: ModelConfig,
    dtype: str,
    *,
    shape_only: bool = False,
    macs: int | None = None,
) -> dict[str, RecipePlan]:
    """The plan of what each recipe would make of a folder, by name, for activations in `dtype`.

    None for a packed checkpoint, or one that cannot be converted. shape_only: the folder's files
    may end behind their headers. macs: plan for so many that share it, too.
    """
    if config.quantization is not None:
        return {}
    try:
        source = open_checkpoint(folder, shape_only=shape_only)
        plans = {name: make_plan(source, make_recipe(options)) for name, options in RECIPES.items()}
    except CheckpointError:  # it loads, and `convert` says why it cannot do more
        return {}
    return {name: _planned(plan, dtype, macs) for name, plan in plans.items()}


def _planned(plan: Plan, dtype: str, macs: int | None) -> RecipePlan:
    """The plan of the folder that a conversion would make."""
    with TemporaryDirectory() as name:
        write_shapes_only(plan, Path(name))
        memory = plan_memory(Path(name), dtype, shape_only=True)
        shared = macs and shared_plan(Path(name), memory, macs, dtype, shape_only=True)
        return RecipePlan(memory, plan.token_bytes, shared or None)
