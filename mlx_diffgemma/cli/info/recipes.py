"""The recipes of `convert` for a checkpoint that is not packed, and the memory they need."""

from dataclasses import dataclass, replace
from pathlib import Path

from ...checkpoint.config import ModelConfig
from ...checkpoint.tensors import VISION
from ...convert.plan import Plan, make_plan
from ...convert.quantize import PRESETS, RecipeOptions, make_recipe
from ...convert.read import open_checkpoint
from ...errors import CheckpointError
from ...machine.dtypes import FLOAT_BYTES
from ...model.inventory import largest_context
from ...model.memory import Footprint


@dataclass(frozen=True)
class RecipeFit:
    """A recipe, the bytes of text weights that it leaves, and the longest context beside them.

    largest_context: 0 where not even the weights fit, None where the memory is not known.
    """

    name: str
    weights_bytes: int
    largest_context: int | None


def recipes_for(folder: Path, config: ModelConfig, need: Footprint) -> tuple[RecipeFit, ...]:
    """One entry a recipe; none for a packed checkpoint, or one that cannot be converted."""
    if config.quantization is not None:
        return ()
    try:
        source = open_checkpoint(folder)
        plans = {
            name: make_plan(source, make_recipe(RecipeOptions(name)))
            for name in PRESETS
            if name != "none"
        }
    except CheckpointError:  # it loads, and `convert` says why it cannot do more
        return ()
    fits = []
    for name, plan in plans.items():
        packed = replace(need, weight_bytes=_text_bytes(plan))
        context = largest_context(config, packed, FLOAT_BYTES.get(config.dtype, 2))
        fits.append(RecipeFit(name, packed.weight_bytes, context))
    return tuple(fits)


def _text_bytes(plan: Plan) -> int:
    return sum(out.num_bytes for out in plan.outputs if not VISION.match(out.name))
