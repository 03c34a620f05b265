"""Several Macs for `info --macs N`: what each needs of a model they share, and which Macs have it.

Arithmetic alone: no other Mac is asked, and nothing here was measured on one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...checkpoint.config import ModelConfig
from ...errors import SettingsError, counted
from ...machine.choices import Choices
from ...model.memory import MemoryPlan, sized
from ...model.shares import SharedPlan, shared_plan
from .recipes import RecipePlan

GIB = 1 << 30
SOLD = (8, 16, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512)  # GiB of memory of a Mac
SMALL = 32  # GiB up to which macOS gives a GPU two thirds, unless it is told otherwise
NAME_WIDTH = 12


@dataclass(frozen=True)
class SharedNeed:
    """A Mac's need where `macs` of them share a model: of the fullest one, where they differ.

    recipe: of `convert`, None for the folder as it is. smallest_mac: GiB of memory of the smallest
    Mac that gives a GPU as much by default, None where none does; largest_context: the longest
    that fits there.
    """

    recipe: str | None
    share: str
    weights_bytes: int
    cache_bytes: int
    workspace_bytes: int
    needed_bytes: int
    smallest_mac: int | None
    largest_context: int | None


@dataclass(frozen=True)
class SharedFacts:
    """What `info --macs` adds: a need for the folder and each recipe, by rows and by layers."""

    macs: int
    context: int
    needs: tuple[SharedNeed, ...]


def usual_limit(gib: int) -> int:
    """Bytes that macOS lets a GPU have of so much memory, unless iogpu.wired_limit_mb is set."""
    return gib * GIB * 2 // 3 if gib <= SMALL else gib * GIB * 3 // 4


def require_shareable(config: ModelConfig, macs: int) -> None:
    """SettingsError for a number of Macs that can share neither way."""
    layers, rows = len(config.text.layers), config.canvas_length
    if not 2 <= macs <= max(layers, rows):
        raise SettingsError(
            f"--macs is {macs:,}, expected 2 to {max(layers, rows)}: the model has "
            f"{counted(layers, 'layer')}, its canvas {counted(rows, 'row')}."
        )


def shared_facts(
    folder: Path,
    plan: MemoryPlan,
    macs: int,
    context: int,
    recipes: Mapping[str, RecipePlan],
    dtype: str,
    choices: Choices,
    *,
    shape_only: bool,
) -> SharedFacts:
    """The needs of `macs` Macs."""
    own = shared_plan(folder, plan, dtype, choices, shape_only=shape_only)
    plans = {None: own} | {name: r.shared for name, r in recipes.items() if r.shared}
    needs = (need for name, each in plans.items() for need in _needs(name, each, macs, context))
    return SharedFacts(macs, context, tuple(needs))


def _needs(recipe: str | None, shared: SharedPlan, macs: int, context: int) -> Iterator[SharedNeed]:
    """By rows and by layers, as far as there are enough of them."""
    if macs <= shared.plan.config.canvas_length:
        yield _need(recipe, "rows", shared, 1, context)
    if macs <= len(shared.layer_bytes):
        yield _need(recipe, "layers", shared, macs, context)


def _need(
    recipe: str | None, share: str, shared: SharedPlan, parts: int, context: int
) -> SharedNeed:
    need = shared.fullest(parts, context)
    mac = next((gib for gib in SOLD if need.needed_bytes <= usual_limit(gib)), None)
    longest = None if mac is None else shared.largest_context(parts, usual_limit(mac))
    return SharedNeed(
        recipe,
        share,
        need.weight_bytes,
        need.cache_bytes,
        need.workspace_bytes,
        need.needed_bytes,
        mac,
        longest,
    )


def shared_lines(facts: SharedFacts) -> Iterator[str]:
    """The report for people."""
    yield (
        f"{facts.macs} Macs that answer together, each for a context of "
        f"{counted(facts.context, 'position')}: arithmetic"
    )
    yield f"  {'':<{NAME_WIDTH}}{'share':<8}{'weights':>12}{'needed':>12}  smallest Macs"
    last: str | None = ""
    for need in facts.needs:
        name = need.recipe or "as it is"
        if len(name) > NAME_WIDTH and name != last:
            yield f"  {name}"
        shown = name if name != last and len(name) <= NAME_WIDTH else ""
        last = name
        sizes = f"{sized(need.weights_bytes):>12}{sized(need.needed_bytes):>12}"
        yield f"  {shown:<{NAME_WIDTH}}{need.share:<8}{sizes}  {_mac(facts.macs, need)}"
    yield f"  A GPU gets 2/3 of up to {SMALL} GB, 3/4 of more; iogpu.wired_limit_mb raises it."
    yield "  rows: each Mac holds all of it. layers: figures are the fullest Mac's."


def _mac(macs: int, need: SharedNeed) -> str:
    if need.smallest_mac is None:
        return "none holds it"
    return f"{macs} x {need.smallest_mac} GB, context up to {need.largest_context:,}"
