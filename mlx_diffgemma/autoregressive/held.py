"""Tokens that the form of an answer allows next, in mode ar. Axes: R rows, V vocabulary."""

from collections.abc import Sequence
from copy import copy

import mlx.core as mx
import numpy as np

from ..constrain.constraint import Constraint


def allowed_part(constraint: Constraint, draft: list[int]) -> list[int]:
    """The beginning of a draft that the form allows."""
    ahead = copy(constraint)
    for at, token in enumerate(draft):
        if not ahead.allowed()[ahead.classes[token]]:
            return draft[:at]
        ahead.advance([token])
    return draft


def allowed_tokens(constraint: Constraint, draft: Sequence[int] = ()) -> mx.array:
    """The mask [R, V] of tokens that may come next, and behind each of an allowed draft's."""
    ahead = copy(constraint)
    rows = [ahead.allowed()]
    for token in draft:
        ahead.advance([token])
        rows.append(ahead.allowed())
    return mx.array(np.stack(rows)[:, ahead.classes])
