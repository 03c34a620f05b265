"""The state of a denoising loop, what a step takes beside it, and what is read of a step.

Axes: C canvas positions, F of them denoised (all, where none is pinned), H hidden size.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..model.blocks import ALL_ROWS
from ..share.part import Rows
from .held import Held


@dataclass(frozen=True)
class State:
    """All that one denoising step hands to the next.

    tokens [C] int32; soft [1, C, H], None at the first step; best [F] int32: the argmax of the
    denoised positions one step before, None at the first step.
    """

    tokens: mx.array
    soft: mx.array | None = None
    best: mx.array | None = None


@dataclass(frozen=True)
class StepInputs:
    """All that a denoising step takes beside the state.

    uniforms [F, 2] for the draw, of this Mac's positions where some share a canvas; renoise [F]
    int32 for positions that are not accepted; rows [F]: the denoised positions, None for all: no
    logits are made for the others, which all the same are seen. exact: never gather the soft
    embedding. entropy_bound in nats. held: the form that the rows are held to, if any. own: those
    of the F positions that are computed here.
    """

    temperature: float
    entropy_bound: float
    uniforms: mx.array
    renoise: mx.array
    rows: mx.array | None = None
    exact: bool = False
    held: Held | None = None
    own: Rows = ALL_ROWS


@dataclass(frozen=True)
class Outcome:
    """All of a step that is read.

    mean_entropy in nats; unchanged: best is what it was one step before; second_tier_rows,
    dense_rows: rows whose soft embedding takes more tokens, or the whole product, out of those that
    are computed here; best [F] int32; entropy [F] nats; accepted [F] bool; strain: of a form, in
    nats, see `Held.bias`.
    """

    mean_entropy: float
    unchanged: bool
    second_tier_rows: int
    dense_rows: int
    best: NDArray[np.int32]
    entropy: NDArray[np.float32]
    accepted: NDArray[np.bool_]
    strain: float | None = None
