#!/usr/bin/env python3
"""The tables of docs/several-macs.md: what each of several Macs needs of the 26B model, and has.

    python scripts/make_share_table.py            # prints them

Arithmetic, not a measurement: the program's own sums over the published tensor table as
`info --macs N` has them on a Mac, and its prediction of a step for links of so many numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from make_memory_table import a_gpu, write_sparse

from mlx_diffgemma.checkpoint.config import read_config
from mlx_diffgemma.cli.info import recipes
from mlx_diffgemma.cli.info.macs import SharedNeed, shared_facts
from mlx_diffgemma.model import slices
from mlx_diffgemma.model.memory import plan_memory
from mlx_diffgemma.model.shares import shared_plan
from mlx_diffgemma.share.part import CUTS, Cut
from mlx_diffgemma.share.predicted import one_mac_ms, predicted, predicted_prompt, prompt_ms

MACS = (2, 3, 4)
CONTEXT = 8192
SHOWN = ("4bit", "8bit", None)
CHIPS = {"M4 Pro": 9.2, "M4 Max": 18.4, "M5 Max": 66.0}  # TFLOPS
LINKS = {  # seconds of a message of its own, and bytes a second
    "JACCL, Thunderbolt 5": (0.2e-3, 6.3e9),
    "ring, Thunderbolt 5": (0.48e-3, 3e9),
    "ring, 10 GbE": (0.48e-3, 1.1e9),
}
SLOW = {"ring, 1 GbE": (0.48e-3, 0.115e9)}


def main() -> None:
    print("\n".join([*needs_table(), "", *steps_table(), "", *prompts_table()]))


def needs_table() -> Iterator[str]:
    """A row for each cut and number of Macs: GB of the fullest one, and those that give as much."""
    yield "| `--share` | Macs | `4bit` | `8bit` | bfloat16 |"
    yield "|---|---|---|---|---|"
    with TemporaryDirectory() as name, a_gpu(), as_shown():
        folder = write_sparse(Path(name))
        found = {macs: needs(folder, macs) for macs in MACS}
    for cut in CUTS:
        for macs in MACS[:1] if cut == "rows" else MACS:
            cells = [cell(macs, found[macs][recipe, cut]) for recipe in SHOWN]
            yield f"| {cut} | {'any' if cut == 'rows' else macs} | {' | '.join(cells)} |"


def needs(folder: Path, macs: int) -> dict[tuple[str | None, str], SharedNeed]:
    """What `info --macs` says of the published checkpoint, by recipe and cut."""
    config = read_config(folder)
    plan = plan_memory(folder)
    own = shared_plan(folder, plan, macs)
    plans = recipes.recipe_plans(folder, config, config.dtype, macs=macs)
    facts = shared_facts(own, CONTEXT, plans)
    return {(need.recipe, need.share): need for need in facts.needs}


def cell(macs: int, need: SharedNeed) -> str:
    """GB that are needed, and the usual Macs that have them."""
    each = "each " if need.share == "rows" else f"{macs} x "
    return f"{need.needed_bytes / 1e9:.1f}: {each}{need.smallest_mac} GB"


@contextmanager
def as_shown() -> Iterator[None]:
    """Cut experts as the kernels do, wherever this runs, and plan for no other recipes."""
    wanted = {name: options for name, options in recipes.RECIPES.items() if name in SHOWN}
    with ExitStack() as stack:
        stack.enter_context(patch.object(slices, "experts_cut", lambda: "number"))
        stack.enter_context(patch.object(recipes, "RECIPES", wanted))
        yield


def steps_table() -> Iterator[str]:
    """A row for two and four Macs of each chip: ms of a step and one Mac's time over it."""
    yield f"| Macs | one | `--share` | {' | '.join(LINKS)} |"
    yield f"|---|---|---|{'---|' * len(LINKS)}"
    for macs in (2, 4):
        for chip, tflops in CHIPS.items():
            for cut in CUTS:
                steps = [predicted(cut, macs, tflops, taking(*link)) for link in LINKS.values()]
                cells = " | ".join(f"{step.step_ms:.0f} ({step.speed_up:.2f}x)" for step in steps)
                yield f"| {named(macs, chip, tflops, cut)} | {cut} | {cells} |"


def prompts_table() -> Iterator[str]:
    """A row for two Macs of each chip: ms of a prompt's piece by rows, and one's time over it."""
    links = LINKS | SLOW
    yield f"| Macs | one | {' | '.join(links)} |"
    yield f"|---|---|{'---|' * len(links)}"
    for chip, tflops in CHIPS.items():
        pieces = [predicted_prompt(2, tflops, taking(*link)) for link in links.values()]
        cells = " | ".join(f"{piece.step_ms:,.0f} ({piece.speed_up:.2f}x)" for piece in pieces)
        yield f"| 2 x {chip} | {prompt_ms(1, tflops):,.0f} | {cells} |"


def named(macs: int, chip: str, tflops: float, cut: Cut) -> str:
    """Number and chip of the Macs, and one's time, in the first row of them."""
    return f"{macs} x {chip} | {one_mac_ms(tflops):.0f}" if cut == CUTS[0] else " | "


def taking(each: float, rate: float) -> Callable[[float], float]:
    """Seconds of a message by the bytes that a Mac sends."""
    return lambda sent: each + sent / rate


if __name__ == "__main__":
    main()
