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
    grouped by expert -> the experts' outputs [N, H] in that order. combined: outputs, places and
    weights [L, K], the norm's weight [H] and eps -> the normed sums [L, H]. whole: x and a routing
    -> the same sums.
    """

    route: Callable[[R], Routed]
    products: Callable[[mx.array, mx.array, mx.array], mx.array]
    combined: Callable[[mx.array, mx.array, mx.array, mx.array, float], mx.array]
    whole: Callable[[mx.array, R], mx.array]


@dataclass(frozen=True)
class Mixture(Generic[R]):
    """x [L, H], its routing, gate_up [E, 2I, H] with gate rows first, down [E, H, I].

    norm [H] and eps: of the norm of the sum.
    """

    x: mx.array
    routing: R
    gate_up: StoredWeight
    down: StoredWeight
    norm: mx.array
    eps: float
    operations: Operations[R]

    @property
    def num_experts(self) -> int:
        return self.down.shape[0]
