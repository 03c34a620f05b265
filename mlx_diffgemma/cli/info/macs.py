"""Several Macs for `info --macs N`: what each needs of a model they share, and which Macs have it.

Arithmetic: nothing here was measured on one. Where Macs were started together, each says its limit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...checkpoint.config import ModelConfig
from ...errors import SettingsError, counted
from ...model.memory import sized
from ...model.shares import SharedPlan
from ..macs.group import Group
from .limits import MacLimit, limit_lines, mac_limits
from .recipes import RecipePlan

GIB = 1 << 30
SOLD = (8, 16, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512)  # GiB of memory of a Mac
SMALL = 32  # GiB up to which macOS gives a GPU two thirds, unless it is told otherwise
NAME_WIDTH = 12


@dataclass(frozen=True)
class SharedNeed:
    """A Mac's need where `macs` of them share a model: of the fullest one, where they differ.

    recipe: of `convert`, None for the folder as it is. smallest_mac: GiB of memory of the smallest
    Mac that gives a GPU as much by default, None where none does; too_small_mac: of the next
    smaller one, None where there is none; largest_context: the longest that fits on the smallest.
    """

    recipe: str | None
    share: str
    weights_bytes: int
    cache_bytes: int
    workspace_bytes: int
    needed_bytes: int
    smallest_mac: int | None
    too_small_mac: int | None
    largest_context: int | None


@dataclass(frozen=True)
class Refusal:
    """The reason for which so many Macs cannot cut tensors; recipe: None for the folder itself."""

    recipe: str | None
    reason: str


@dataclass(frozen=True)
class SharedFacts:
    """What `info --macs` adds: a need for the folder and each recipe, by each cut.

    limits: what each Mac of a group says of itself, None where none was started together.
    """

    macs: int
    context: int
    needs: tuple[SharedNeed, ...]
    refused: tuple[Refusal, ...] = ()
    limits: tuple[MacLimit, ...] | None = None


def usual_limit(gib: int) -> int:
    """Bytes that macOS lets a GPU have of so much memory, unless iogpu.wired_limit_mb is set."""
    return gib * GIB * 2 // 3 if gib <= SMALL else gib * GIB * 3 // 4


def require_shareable(config: ModelConfig, macs: int) -> None:
    """SettingsError for a number of Macs that can share in no way."""
    layers, rows = len(config.text.layers), config.canvas_length
    if not 2 <= macs <= max(layers, rows):
        raise SettingsError(
            f"--macs is {macs:,}, expected 2 to {max(layers, rows)}: the model has "
            f"{counted(layers, 'layer')}, its canvas {counted(rows, 'row')}."
        )


def shared_facts(
    own: SharedPlan, context: int, recipes: Mapping[str, RecipePlan], group: Group | None = None
) -> SharedFacts:
    """The needs of Macs that share a folder, or what recipes make of it.

    group: those that were started together, each of which says what it can give.
    """
    plans = {None: own} | {name: r.shared for name, r in recipes.items() if r.shared}
    needs = (need for name, each in plans.items() for need in _needs(name, each, context))
    refused = (Refusal(name, each.refused) for name, each in plans.items() if each.refused)
    limits = None if group is None else mac_limits(group.share, own, context)
    return SharedFacts(own.size, context, tuple(needs), tuple(refused), limits)


def _needs(recipe: str | None, shared: SharedPlan, context: int) -> Iterator[SharedNeed]:
    """By each cut that has something for every Mac."""
    for cut in shared.possible:
        need = shared.fullest(cut, context)
        at = next((n for n, gib in enumerate(SOLD) if need.needed_bytes <= usual_limit(gib)), None)
        mac = None if at is None else SOLD[at]
        yield SharedNeed(
            recipe,
            cut,
            need.weight_bytes,
            need.cache_bytes,
            need.workspace_bytes,
            need.needed_bytes,
            mac,
            SOLD[-1] if at is None else SOLD[at - 1] if at else None,
            None if mac is None else shared.largest_context(cut, usual_limit(mac)),
        )


def shared_lines(facts: SharedFacts) -> Iterator[str]:
    """The report for people."""
    yield (
        f"{facts.macs} Macs that answer together, each for a context of "
        f"{counted(facts.context, 'position')}: arithmetic"
    )
    head = f"{'weights':>10}{'needed':>10}  {'fits on':<24}{'context':>9}"
    yield f"  {'':<{NAME_WIDTH}}{'share':<8}{head}"
    last: str | None = ""
    for need in facts.needs:
        name = need.recipe or "as it is"
        if len(name) > NAME_WIDTH and name != last:
            yield f"  {name}"
        shown = name if name != last and len(name) <= NAME_WIDTH else ""
        last = name
        sizes = f"{sized(need.weights_bytes):>10}{sized(need.needed_bytes):>10}"
        yield f"  {shown:<{NAME_WIDTH}}{need.share:<8}{sizes}  {_mac(facts.macs, need)}"
    yield f"  A GPU gets 2/3 of up to {SMALL} GB, 3/4 of more; iogpu.wired_limit_mb raises it."
    yield "  rows: each Mac holds all of it. layers, tensor: figures are the fullest Mac's."
    for refusal in facts.refused[:1]:
        yield f"  tensor: {refusal.reason}"
    yield from limit_lines(facts.limits or ())


def _mac(macs: int, need: SharedNeed) -> str:
    """The usual Macs that hold it, those that just do not, and the longest context on the first."""
    not_on = "" if need.too_small_mac is None else f", not {macs} x {need.too_small_mac}"
    if need.smallest_mac is None:
        return f"none{not_on}"
    return f"{f'{macs} x {need.smallest_mac} GB{not_on}':<24}{need.largest_context:>9,}"
