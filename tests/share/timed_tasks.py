"""A measurement that ranks share, as far as it is of the link between them."""

from typing import Any

from mlx_diffgemma.conversation.loading import load
from mlx_diffgemma.machine.identity import this_machine
from mlx_diffgemma.profile.condition import condition
from mlx_diffgemma.profile.measurement import Measurement
from mlx_diffgemma.profile.run import run
from mlx_diffgemma.profile.workload import Workload
from mlx_diffgemma.share.part import Cut
from mlx_diffgemma.share.share import Share


def timed_link(share: Share, folder: str, cuts: list[Cut]) -> dict[str, Any]:
    """What the link took, by cut."""
    found = {}
    for cut in cuts:
        session = load(folder, share=share, cut=cut)
        workload = Workload(steps=2, context=130)
        measured = Measurement(session, "random", workload, this_machine(), condition())
        run(measured, components=True)
        found[cut] = measured.link
    return found
