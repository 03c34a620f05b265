"""One mixture of experts, by kernels where trials found them right and faster, else by operations.

Two families, each with a verdict of its own: the products, and what stands around them. On some
chips MLX's products win, and the sorts around them are saved all the same.
Axes: L rows, H hidden size, I inner size of one expert, E experts, K experts a row, N = L * K.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import mlx.core as mx

from ...checkpoint.tensors import StoredWeight
from ..router.trial import R, Routed


@dataclass(frozen=True)
class Operations(Generic[R]):
    """The parts of a mixture in MLX operations, and the whole.

    route: a routing -> experts and weights [L, K]. products: x [L, H], experts, and rows [N]
    grouped by expert -> the experts' outputs [N, H] in that order; those of experts that are not
    own may be anything. combined: outputs, places and weights [L, K], the norm's weight [H] or
    None, and eps -> the sums over own experts [L, H], normed with a weight. whole: x and a routing
    -> the same sums.
    """

    route: Callable[[R], Routed]
    products: Callable[[mx.array, mx.array, mx.array], mx.array]
    combined: Callable[[mx.array, mx.array, mx.array, mx.array | None, float], mx.array]
    whole: Callable[[mx.array, R], mx.array]


@dataclass(frozen=True)
class Mixture(Generic[R]):
    """x [L, H], its routing, gate_up [held, 2I, H] with gate rows first, down [held, H, I].

    norm [H] and eps: of the norm of the sum; None: the sum as it is. own: the numbers of the
    experts that the weights hold, of the E that the router chooses from; None: all. Other experts
    add nothing: the sum of all parts is the whole mixture's.
    """

    x: mx.array
    routing: R
    gate_up: StoredWeight
    down: StoredWeight
    norm: mx.array | None
    eps: float
    operations: Operations[R]
    own: range | None = None

    @property
    def described(self) -> str:
        """In words, what is left out of the whole mixture, for a verdict's key; "" for nothing."""
        held = "" if self.own is None else f", {len(self.own)} of them here"
        return held + ("" if self.norm is not None else ", not normed")

    @property
    def num_experts(self) -> int:
        """E, what the router chooses from."""
        return self.routing.scores.shape[1]
