"""The faults of the router's kernel, and of the choice that it shares with the experts' plan."""

from collections.abc import Sequence
from functools import cache

import mlx.core as mx
from mutants import Kernel, Run, fault, faults

from mlx_diffgemma.kernels.router.checks import RouteCase
from mlx_diffgemma.model import experts as reference

CHOICE = faults(  # top_experts.h, which comes first in the text
    fault("lane < E;", "lane < E - 1;"),
    fault("i < PER_LANE", "i < PER_LANE - 1", 2),
    fault("slot < TOP_K", "slot < TOP_K - 1"),
    fault("lane < TOP_K ?", "lane < TOP_K - 1 ?"),
    fault("rank > best", "rank >= best"),
    fault("simd_min(", "simd_max("),
    fault("== winner ? found", "!= winner ? found"),
    fault("!= winner;", "== winner;"),
    fault("lane == slot ? winner", "lane == slot + 1 ? winner"),
)


@cache
def routes() -> Sequence[Run]:
    """Ties within a lane, as many experts as may be chosen, and one alone."""
    shapes = ((30, 80, 16), (2, 1, 1))
    return [RouteCase.of(shape, mx.float32, reference).kernel for shape in shapes]


KERNELS = (
    Kernel(
        "moe_route",
        routes,
        faults(
            CHOICE,
            fault("expert < E ?", "expert < E - 1 ?"),
            fault("expert < E ?", "expert <= E ?", sanitizer="address"),
            fault("if (lane < TOP_K)", "if (lane <= TOP_K)"),
            fault("if (lane < TOP_K)", "if (lane < TOP_K - 1)"),
            fault("row * E", "0 * E"),
            fault("share * scale[own]", "share"),
        ),
        headers=("top_experts.h",),
    ),
)
