"""The recipes of `convert` for a checkpoint that is not packed, and the memory they need."""

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


@dataclass(frozen=True)
class RecipeFit:
    """A recipe, the bytes of its weights in memory, and the longest context beside them.

    largest_context: 0 where not even the weights fit, None where the memory is not known.
    """

    name: str
    weights_bytes: int
    largest_context: int | None


def recipe_fits(plans: Mapping[str, MemoryPlan], available: int | None) -> tuple[RecipeFit, ...]:
    """One entry a recipe, on a machine that can give `available` bytes, None where unknown."""
    return tuple(
        RecipeFit(name, plan.weights.held_bytes, plan.largest_context(available))
        for name, plan in plans.items()
    )


def recipe_plans(
    folder: Path, config: ModelConfig, dtype: str, *, shape_only: bool = False
) -> dict[str, MemoryPlan]:
    """The memory of what each recipe would make of a folder, by name, for activations in `dtype`.

    None for a packed checkpoint, or one that cannot be converted. shape_only: the folder's files
    may end behind their headers.
    """
    if config.quantization is not None:
        return {}
    try:
        source = open_checkpoint(folder, shape_only=shape_only)
        plans = {
            name: make_plan(source, make_recipe(RecipeOptions(name)))
            for name in PRESETS
            if name != "none"
        }
    except CheckpointError:  # it loads, and `convert` says why it cannot do more
        return {}
    return {name: _memory(plan, dtype) for name, plan in plans.items()}


def _memory(plan: Plan, dtype: str) -> MemoryPlan:
    """The memory of the folder that a conversion would make."""
    with TemporaryDirectory() as name:
        write_shapes_only(plan, Path(name))
        return plan_memory(Path(name), dtype, shape_only=True)
